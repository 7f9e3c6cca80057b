"""The streams, made before anybody uses them.

Each service would make them by itself. But where there is no room for one, several of them would look
for the free space at the same time, and find each other's attempts; here one asks, and is told right.
"""

import structlog

from contracts.topology import streams
from services.chassis.jetstream import NoRoom, connect, ensure


class DoesNotFit(Exception):
    """The disk has no room for a stream; one line with the figures."""


async def make_streams(nats_url: str, *, market_max_bytes: int) -> None:
    """Make what is missing.

    Raises:
        DoesNotFit: there is no room for it.
    """
    client = await connect(nats_url, name="local", log=structlog.stdlib.get_logger())
    try:
        await ensure(client, streams(market_max_bytes=market_max_bytes))
    except NoRoom as error:
        raise DoesNotFit(str(error)) from error
    finally:
        await client.close()
