"""One append to a stream: one event, or several that are stored all or not at all, each where its aggregate expects it.

Decides what an answer means: stored, a conflict, no room, or nothing known. Never decides what to do about it.
"""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client

from contracts.envelope import Publication
from contracts.errors import ErrorCode, Problem, Refused

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_STREAM = "Nats-Expected-Stream"
# The expected sequence is not the last; another write of the subject is under way; a batch repeats an id.
_CONFLICTS = frozenset({10071, 10164, 10201})
# JetStream's codes where there is no room: resource limits of the account, of the server, of memory, of storage,
# and the stream's own (10077 "maximum bytes exceeded").
FULL = frozenset({10002, 10023, 10028, 10047, 10077})
# Room is made by people, not by waiting a second.
RETRY_FULL_MS = 30_000
_LAST = re.compile(r"wrong last sequence: (\d+)")


class Conflict(Exception):
    """Somebody else wrote, or we did and never heard of it. `last` is the subject's last sequence, where told."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__("the aggregate has changed")
        self.last = last


class NotAcknowledged(Exception):
    """Nothing is known: it may be stored now, or be stored later."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An event, and the last sequence its subject must have; None within a batch behind another of that subject."""

    publication: Publication
    last: int | None


@dataclass(frozen=True, slots=True)
class Ack:
    """The sequence of the last event, and whether the stream says that it knew it before."""

    sequence: int
    duplicate: bool


async def append(client: Client, events: Sequence[Expected], seconds: float) -> Ack:
    """Store the events, all or none.

    Raises:
        Conflict, NotAcknowledged.
        Refused: `store_full`.
    """
    batch = secrets.token_hex(16)
    try:
        for number, event in enumerate(events[:-1], 1):
            headers = {**_headers(event), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await client.publish(event.publication.subject, event.publication.payload, headers=headers)
        headers = _headers(events[-1])
        if len(events) > 1:
            headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(events)), "Nats-Batch-Commit": "1"}
        last = events[-1].publication
        answer = await client.request(last.subject, last.payload, timeout=seconds, headers=headers)
    except (nats.errors.Error, OSError) as error:
        raise NotAcknowledged(str(error) or type(error).__name__) from error
    return _ack(answer.data, last.stream)


def _headers(event: Expected) -> dict[str, str]:
    headers = {**event.publication.headers, _EXPECTED_STREAM: event.publication.stream}
    if event.last is not None:
        headers[_EXPECTED] = str(event.last)
    return headers


def _ack(payload: bytes, stream: str) -> Ack:
    found = json.loads(payload)
    error = found.get("error")
    if error is None:
        return Ack(found["seq"], bool(found.get("duplicate")))
    code, why = error.get("err_code", 0), error.get("description", "refused")
    if code in _CONFLICTS:
        last = _LAST.search(why)
        raise Conflict(int(last[1]) if last else None)
    if code in FULL:
        raise Refused(Problem(ErrorCode.STORE_FULL, f"the stream {stream} takes no more: {why}", RETRY_FULL_MS))
    raise NotAcknowledged(f"the stream {stream} refused: {why}")
