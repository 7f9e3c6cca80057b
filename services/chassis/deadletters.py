"""Dead letters: messages that a reaction gave up on, kept with the reason until somebody looks (DEAD_LETTERS).

A letter holds a copy, unless that and the reason together are more than NATS takes; the event itself is still in its
stream. One that was replayed is removed, and only then.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

import nats.errors
from nats.aio.client import Client

from contracts.envelope import MESSAGE_ID
from contracts.topology import DEAD_LETTERS
from services.chassis import jetstream
from services.chassis.direct import direct_get

_SECONDS = 2.0
_BATCH = 100
_HEADER = "A2a-Dead-"
# Of each header, and of all of them.
_HEADER_OVERHEAD = len(": \r\n")
_HEADERS_OVERHEAD = 64


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
    # Whether the payload is here; one that is too large to be put aside is left in its stream.
    whole: bool = True
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
            **({} if self.whole else {f"{_HEADER}Left": "in its stream"}),
        }

    def fitting(self, most_bytes: int) -> "DeadLetter":
        """The letter as a server takes it that takes so many bytes a message, its headers among them."""
        size = sum(len(name) + len(value.encode()) + _HEADER_OVERHEAD for name, value in self.headers().items())
        fits = len(self.payload) + size + _HEADERS_OVERHEAD <= most_bytes
        return self if fits else replace(self, payload=b"", whole=False)


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
        f"{_HEADER}Left" not in headers,
        number,
    )


async def bury(client: Client, letter: DeadLetter) -> bool:
    """Store it; whether that is certain."""
    subject = f"dead.{letter.service}.{letter.consumer}"
    # What is too large costs the connection, and with it whatever else the service does.
    letter = letter.fitting(client.max_payload)
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


async def payload_of(client: Client, letter: DeadLetter) -> bytes:
    """What was given up on: the letter's copy, else what its stream holds."""
    if letter.whole:
        return letter.payload
    found = await jetstream.request(client, f"STREAM.MSG.GET.{letter.stream}", {"seq": letter.sequence})
    return base64.b64decode(found["message"].get("data", ""))
