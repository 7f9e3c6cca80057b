"""What a request body is: publications that may be stored, or every reason why none of them may.

Pure. All events of a batch are judged before the first is handed on, and a failing field is named by
JSON pointer into the body. Decides nothing of HTTP, and never whether an event could be stored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from contracts.contract import ContractViolation, Violation, pointer
from contracts.cursor import Cursor
from contracts.envelope import Publication
from contracts.errors import ErrorCode, Problem, Refused
from contracts.registry import Registry

MOST_EVENTS = 500
# A batch of 500 that is wrong throughout would be answered with megabytes; the first failures tell enough.
_MOST_VIOLATIONS = 100


@dataclass(frozen=True, slots=True)
class Stored:
    """One event as it is in its stream."""

    id: str
    cursor: Cursor
    # Whether an event of this id was there before, within the duplicate window.
    duplicate: bool

    def as_json(self) -> dict[str, Any]:
        """The answer of PROTOCOL §7."""
        return {"id": self.id, "cursor": str(self.cursor), "duplicate": self.duplicate}


class NotStored(Refused):
    """The store gave up. `stored` holds what is known to be in the stream all the same, in the request's order."""

    def __init__(self, problem: Problem, stored: Sequence[Stored] = ()) -> None:
        super().__init__(problem)
        self.stored = tuple(stored)


class InvalidEvents(Refused):
    """At least one event does not fit; `violations` point into the request's body."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        first = violations[0]
        super().__init__(Problem(ErrorCode.INVALID_EVENT, f"{first.pointer or 'the body'}: {first.message}{more}"))
        self.violations = tuple(violations[:_MOST_VIOLATIONS])


class Store(Protocol):
    """Where publications go."""

    async def put(self, publications: Sequence[Publication]) -> list[Stored]:
        """Store all, each subject's in the order given; results in the order given.

        Raises:
            NotStored: not all of them; the same call may be repeated.
        """


def decode(body: bytes) -> object:
    """Read strict JSON: UTF-8, no NaN, no number beyond a double, no half of a surrogate pair.

    Raises:
        Refused: `invalid_json`.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(Problem(ErrorCode.INVALID_JSON, f"not JSON in UTF-8: {error}"[:300])) from error
    except RecursionError as error:
        raise Refused(Problem(ErrorCode.INVALID_JSON, "nested too deeply")) from error


def read_event(body: bytes, registry: Registry) -> list[Publication]:
    """The one event of a single request.

    Raises:
        Refused: `invalid_json`.
        InvalidEvents: it does not fit its contract.
    """
    return _judge([("", decode(body))], registry)


def read_batch(body: bytes, registry: Registry) -> list[Publication]:
    """The events of a batch request, in order.

    Raises:
        Refused: `invalid_json`, or `message_too_large` for too many events.
        InvalidEvents: at least one does not fit, or there is none.
    """
    documents = decode(body)
    if not isinstance(documents, list):
        raise InvalidEvents([Violation("", "a batch is a JSON array of CloudEvents")])
    if not documents:
        raise InvalidEvents([Violation("", "a batch has at least one event")])
    if len(documents) > MOST_EVENTS:
        why = f"a batch has at most {MOST_EVENTS} events, not {len(documents)}"
        raise Refused(Problem(ErrorCode.MESSAGE_TOO_LARGE, why))
    return _judge([(pointer([index]), document) for index, document in enumerate(documents)], registry)


def _judge(documents: Iterable[tuple[str, object]], registry: Registry) -> list[Publication]:
    found: list[Publication] = []
    violations: list[Violation] = []
    # Event id -> where it stood first, and all of it.
    seen: dict[str, tuple[str, object]] = {}
    for place, document in documents:
        try:
            publication = _publication(document, registry)
        except ContractViolation as error:
            violations += [Violation(place + each.pointer, each.message) for each in error.violations]
            continue
        first, same = seen.setdefault(publication.event_id, (place, document))
        if first != place and _canonical(same) != _canonical(document):
            violations.append(Violation(f"{place}/id", f"{first} has the same id and another content"))
        found.append(publication)
    if violations:
        raise InvalidEvents(violations)
    return found


def _publication(document: object, registry: Registry) -> Publication:
    if not isinstance(document, dict):
        raise ContractViolation([Violation("", "an event is a JSON object")])
    return registry.publication(document)


def _canonical(document: object) -> bytes:
    """Text that is equal for equal JSON, whatever the order of members; `==` would take true for 1."""
    return msgspec.json.encode(document, order="sorted")
