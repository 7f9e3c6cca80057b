"""What a test looks up in JetStream itself, past the service under test."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client

from services.chassis.jetstream import StreamState, connect, request, state
from services.chassis.telemetry import logger


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a stream."""

    sequence: int
    subject: str
    headers: dict[str, str]
    payload: bytes

    @property
    def document(self) -> Any:
        """The event."""
        return json.loads(self.payload)


@contextlib.asynccontextmanager
async def looking_at(url: str) -> AsyncIterator[Client]:
    """A connection of the test's own."""
    client = await connect(url, name="test", log=logger("test"))
    try:
        yield client
    finally:
        await client.close()


async def stored(client: Client, cursor: str) -> StoredMessage:
    """The message at the sequence of `cursor`, from the stream it names."""
    stream, _, sequence = cursor.split(".")
    found = await client.jetstream().get_msg(stream, int(sequence))
    return StoredMessage(int(sequence), found.subject or "", dict(found.headers or {}), found.data or b"")


async def all_of(client: Client, subject_filter: str, stream: str = "MARKET") -> list[StoredMessage]:
    """Every stored message that the filter takes, in order."""
    bounds = await state(client, stream)
    jetstream = client.jetstream()
    found: list[StoredMessage] = []
    next_sequence = 1
    while next_sequence <= bounds.last:
        try:
            message = await jetstream.get_msg(stream, next_sequence, subject=subject_filter, next=True)
        except Exception as error:
            if getattr(error, "code", None) == 404:
                break
            raise
        sequence = message.seq or 0
        found.append(StoredMessage(sequence, message.subject or "", dict(message.headers or {}), message.data or b""))
        next_sequence = sequence + 1
    return found


async def forget(client: Client, stream: str = "MARKET") -> None:
    """Delete a stream and its replay mirror, as a restore from nothing would."""
    for name in (f"{stream}_REPLAY", stream):
        await request(client, f"STREAM.DELETE.{name}")


async def end_of(client: Client, stream: str = "MARKET") -> StreamState:
    """The stream as it stands."""
    return await state(client, stream)
