"""Batched direct get: stored messages read without a consumer (ADR-31 of NATS), which nats-py does not wrap.

Any copy of a stream may answer, one that is behind too; who reads says what it must have, and asks again. What a
mirror answers for its stream is refused (docs/adr/0013).
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.chassis.prefix import prefix_of

READ_SECONDS = 5.0
_BATCH_EVENTS = 256
_BATCH_BYTES = 1024 * 1024


class DirectGetFailed(Exception):
    """The server refused, or nobody answered; `status` is what it said."""

    def __init__(self, why: str, status: str = "") -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored message."""

    sequence: int
    subject: str
    payload: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one direct get found."""

    messages: tuple[Stored, ...]
    # Whether more follow behind the last one.
    more: bool
    # Of `multi_last` that found something: the last sequence that who answered had, which a copy may lag behind.
    upto: int | None = None


async def direct_get(
    client: Client, stream: str, query: Mapping[str, Any], seconds: float = READ_SECONDS, *, api: str | None = None
) -> Batch:
    """One batched direct get; `api` is another JetStream's prefix than the connection's own.

    Raises:
        DirectGetFailed: nothing can be said of what is stored.
        nats.errors.Error: NATS is away.
        TimeoutError: the batch was not complete in time.
    """
    found: list[Stored] = []
    end: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def receive(message: Msg) -> None:
        _receive(message, stream, found, end)

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=receive, pending_msgs_limit=-1, pending_bytes_limit=-1)
    try:
        await client.publish(f"{api or prefix_of(client)}.DIRECT.GET.{stream}", json.dumps(query).encode(), reply=inbox)
        async with asyncio.timeout(seconds):
            told = await end
    finally:
        await subscription.unsubscribe()
    more = told["Status"] == "204" and told.get("Nats-Num-Pending", "0") != "0"
    return Batch(tuple(found), more, int(told["Nats-UpTo-Sequence"]) if "Nats-UpTo-Sequence" in told else None)


def _receive(message: Msg, stream: str, found: list[Stored], end: "asyncio.Future[Mapping[str, str]]") -> None:
    if end.done():
        return
    headers = message.headers or {}
    sequence = headers.get("Nats-Sequence")
    if sequence is not None and headers.get("Nats-Stream") != stream:
        end.set_exception(DirectGetFailed(f"{stream}: answered by {headers.get('Nats-Stream')}"))
    elif sequence is not None:
        found.append(Stored(int(sequence), headers["Nats-Subject"], message.data, headers))
    elif headers.get("Status") in ("204", "404"):
        end.set_result(headers)
    else:
        status = headers.get("Status", "")
        end.set_exception(DirectGetFailed(f"{stream}: {status or 'no status'}", status))


async def read_subject(client: Client, stream: str, subject: str, after: int) -> Batch:
    """The next messages of one exact subject beyond `after`, as far as who answers has them."""
    query = {"seq": after + 1, "next_by_subj": subject, "batch": _BATCH_EVENTS, "max_bytes": _BATCH_BYTES}
    return await direct_get(client, stream, query)


async def has(client: Client, stream: str, subject: str, sequence: int) -> bool:
    """Whether the subject has an event at this sequence, as far as who answers has them."""
    batch = await direct_get(client, stream, {"seq": sequence, "next_by_subj": subject, "batch": 1})
    return any(one.sequence == sequence for one in batch.messages)


async def newest_of(client: Client, stream: str, subject_filter: str) -> Stored | None:
    """The newest message of the one subject that a wild-card filter selects; costs a scan, so give it a mirror."""
    batch = await direct_get(client, stream, {"multi_last": [subject_filter], "batch": 1})
    return batch.messages[0] if batch.messages else None
