"""A new epoch for a stream of the hub, told by a person: after a restore from a backup, or where events were lost.

The sequence numbers that clients hold then stand for other events than before, or for none. Under a new epoch their
cursors are told to be `recreated`; regions make their mirrors again.
"""

import time

from nats.aio.client import Client

from contracts.cursor import epoch_is_older, epoch_of
from contracts.topology import EPOCH
from services.chassis.jetstream import request, state


class EpochRefused(Exception):
    """The stream's epoch cannot be followed by a later one now."""


async def declare_epoch(client: Client, stream: str) -> tuple[str, str]:
    """Give the stream an epoch that is newer than the one it has; the two.

    Raises:
        EpochRefused: its epoch lies in the future.
        JetStreamError: there is no such stream, or the update is refused.
    """
    found = await state(client, stream)
    epoch = epoch_of(time.time_ns() // 1_000_000)
    if not epoch_is_older(found.epoch, epoch):
        raise EpochRefused(f"{stream} has the epoch {found.epoch}, which is not older than {epoch}, the present one")
    metadata = {**found.config.get("metadata", {}), EPOCH: epoch}
    await request(client, f"STREAM.UPDATE.{stream}", {**found.config, "metadata": metadata})
    return found.epoch, epoch
