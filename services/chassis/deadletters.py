"""Dead letters: messages that a reaction gave up on, kept with the reason until somebody looks (DEAD_LETTERS).

A letter holds a copy; the event itself is still in its stream. One that was replayed is removed, and only then.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client

from contracts.envelope import MESSAGE_ID
from contracts.topology import DEAD_LETTERS
from services.chassis import jetstream
from services.chassis.direct import direct_get

_SECONDS = 2.0
_BATCH = 100
_HEADER = "A2a-Dead-"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that was put aside."""

    service: str
    consumer: str
    # Where it is stored as an event.
    stream: str
    subject: str
    sequence: int
    # Why it was given up on; one line.
    reason: str
    payload: bytes
    # Its own sequence among the dead letters; 0 before it is there.
    number: int = 0

    def headers(self) -> dict[str, str]:
        """What is stored beside the payload."""
        return {
            # The same message put aside again within the duplicate window is one letter.
            MESSAGE_ID: f"{self.service}.{self.consumer}.{self.stream}.{self.sequence}",
            f"{_HEADER}Stream": self.stream,
            f"{_HEADER}Subject": self.subject,
            f"{_HEADER}Sequence": str(self.sequence),
            f"{_HEADER}Reason": self.reason.encode("ascii", "backslashreplace").decode(),
        }


def _letter(number: int, subject: str, headers: Mapping[str, str], payload: bytes) -> DeadLetter:
    _, service, consumer = subject.split(".")
    return DeadLetter(
        service,
        consumer,
        headers.get(f"{_HEADER}Stream", ""),
        headers.get(f"{_HEADER}Subject", ""),
        int(headers.get(f"{_HEADER}Sequence", 0)),
        headers.get(f"{_HEADER}Reason", ""),
        payload,
        number,
    )


async def bury(client: Client, letter: DeadLetter) -> bool:
    """Store it; whether that is certain."""
    subject = f"dead.{letter.service}.{letter.consumer}"
    try:
        answer = await client.request(subject, letter.payload, timeout=_SECONDS, headers=letter.headers())
    except (nats.errors.Error, OSError):
        return False
    return b'"error"' not in answer.data


async def letters(client: Client, service: str) -> AsyncIterator[DeadLetter]:
    """The dead letters of a service, in the order in which they were put aside."""
    after, more = 0, True
    while more:
        query = {"seq": after + 1, "next_by_subj": f"dead.{service}.*", "batch": _BATCH, "max_bytes": 2 * 1024**2}
        batch = await direct_get(client, DEAD_LETTERS, query)
        for one in batch.messages:
            yield _letter(one.sequence, one.subject, one.headers, one.payload)
        more = batch.more and bool(batch.messages)
        after = batch.messages[-1].sequence if batch.messages else after


async def remove(client: Client, letter: DeadLetter) -> None:
    """It was replayed."""
    await jetstream.request(client, f"STREAM.MSG.DELETE.{DEAD_LETTERS}", {"seq": letter.number, "no_erase": True})
