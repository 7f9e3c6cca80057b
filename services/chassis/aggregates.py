"""Aggregates: what a publisher's state is made of, and folding stored events into it. Pure.

State is nothing but the fold of an aggregate's events, of whatever version they were stored. The causes that were
handled are part of the fold, so a repetition is seen whoever made the first and however long ago.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from contracts.contract import Event
from contracts.cursor import Cursor
from contracts.errors import Problem
from contracts.publishing import derived_id
from contracts.subjects import MARKET, Layout

State = TypeVar("State")
# What a domain answers to a command: the data of events, each of a contract's newest version; none where there is
# nothing to do; or why not.
Decision = Sequence[BaseModel] | Problem

_COMMAND = "command"


@dataclass(frozen=True)
class Aggregate(Generic[State]):
    """One kind of aggregate."""

    # Its token in subjects, as `order`.
    kind: str
    state: type[State]
    # The state after one event, given its data; None before the first.
    evolve: Callable[[State | None, Any], State | None]
    # Raised when `evolve` or `state` change their meaning: snapshots of another revision are not used.
    revision: int = 1
    stream: str = "MARKET"
    layout: Layout = MARKET
    # The data field that its events bear as `correlationid`.
    correlation: str = "intent_id"
    # The tokens of its subjects that bear its id, and its kind where they tell it.
    id_key: str = "aggregate_id"
    kind_key: str | None = "aggregate"
    # How many causes its fold remembers, the latest ones; None: all.
    remembers: int | None = None
    # Whether an event is its last, which bears `final`.
    is_final: Callable[[Any], bool] = lambda _: False
    # Where its stream forgets: whether a state is over. Then a snapshot is no mere shortcut, and is made at the end.
    ended: Callable[[State], bool] | None = None

    def at(self, aggregate_id: str, **keys: str) -> "Target[State]":
        """The aggregate whose subject has these keys besides: `ORDER.at(order, intent=…, buyer=…, node=…)`."""
        return Target(self, self.layout.build({**keys, **self._tokens(aggregate_id)}))

    def filter(self, aggregate_id: str) -> str:
        """The wild-card filter that finds an aggregate's subject by its id alone."""
        return self.layout.filter(self._tokens(aggregate_id))

    def is_at(self, subject: str, aggregate_id: str) -> bool:
        """Whether the subject is one of this kind with this id.

        Raises:
            InvalidSubject: it is none of the layout.
        """
        values = dict(zip(self.layout.tokens, self.layout.parse(subject), strict=True))
        return all(values[token] == value for token, value in self._tokens(aggregate_id).items())

    def _tokens(self, aggregate_id: str) -> dict[str, str]:
        kind = {self.kind_key: self.kind} if self.kind_key is not None else {}
        return {**kind, self.id_key: aggregate_id}


@dataclass(frozen=True)
class Target(Generic[State]):
    """One aggregate of its kind: the subject that its first event fixed, or will."""

    aggregate: Aggregate[State]
    subject: str

    @property
    def id(self) -> str:
        """The aggregate's own id."""
        return self.subject.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Cause:
    """What a change is made for: a command or a stored event. The same cause changes an aggregate once."""

    # Equal for every repetition.
    key: str
    # Tells a repetition from another request with the same key; empty where there can be none.
    fingerprint: str = ""
    traceparent: str | None = None

    @staticmethod
    def command(principal: str, key: str, request: object, traceparent: str | None = None) -> "Cause":
        """A command of `principal` under its idempotency key; `request` is all that the command says, as JSON."""
        said = json.dumps(request, sort_keys=True, separators=(",", ":"))
        fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]
        return Cause(f"{_COMMAND}:{derived_id(_COMMAND, principal, key)}", fingerprint, traceparent)

    @staticmethod
    def event(event: Event) -> "Cause":
        """A stored event that is reacted to."""
        return Cause(event.envelope.id, traceparent=event.envelope.traceparent)

    @staticmethod
    def parse(causationid: str) -> "Cause":
        """The cause that a stored event bears."""
        if not causationid.startswith(f"{_COMMAND}:"):
            return Cause(causationid)
        head, _, fingerprint = causationid.rpartition(":")
        return Cause(head, fingerprint)

    def __str__(self) -> str:
        """As events bear it in `causationid`."""
        return f"{self.key}:{self.fingerprint}" if self.fingerprint else self.key

    def event_id(self, subject: str, position: int) -> str:
        """The id of the event that this cause makes at this place in an aggregate."""
        return derived_id("effect", subject, self.key, position)


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of a cause in one aggregate."""

    fingerprint: str
    # Of its last event here.
    sequence: int


@dataclass(slots=True)
class Fold(Generic[State]):
    """An aggregate as far as it was read; grows by `apply` and by nothing else."""

    target: Target[State]
    state: State | None = None
    # Sequences of its first and last event; 0 before there is one.
    first: int = 0
    last: int = 0
    # How many events were folded.
    count: int = 0
    # Cause's key -> what became of it.
    handled: dict[str, Handled] = field(default_factory=dict)
    # How many events were folded when the latest snapshot was made.
    snapshot_count: int = 0

    def apply(self, sequence: int, data: BaseModel, causationid: str | None) -> None:
        """Take in the next event; one that was taken in before changes nothing."""
        if sequence <= self.last:
            return
        self.state = self.target.aggregate.evolve(self.state, data)
        self.first = self.first or sequence
        self.last = sequence
        self.count += 1
        if causationid is not None:
            cause = Cause.parse(causationid)
            self.handled.pop(cause.key, None)
            self.handled[cause.key] = Handled(cause.fingerprint, sequence)
            most = self.target.aggregate.remembers
            if most is not None and len(self.handled) > most:
                del self.handled[next(iter(self.handled))]

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow."""
        ended = self.target.aggregate.ended
        return ended is not None and self.state is not None and ended(self.state)

    def become(self, later: "Fold[State]") -> None:
        """Take over a fold of the same aggregate that has read further."""
        self.state, self.first, self.last = later.state, later.first, later.last
        self.count, self.handled, self.snapshot_count = later.count, later.handled, later.snapshot_count


@dataclass(frozen=True, slots=True)
class Change(Generic[State]):
    """What came of a cause: the state after it, and the cursor at which it holds."""

    state: State | None
    cursor: Cursor
    # What was stored now; empty for a repetition, and where there was nothing to do.
    events: tuple[BaseModel, ...] = ()
    # Whether this cause had changed the aggregate before.
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class View(Generic[State]):
    """An aggregate as of a cursor: who subscribes from there misses nothing and sees nothing twice."""

    state: State | None
    cursor: Cursor
    # The sequence of its last event; 0 where there is none, or it was in an earlier life of the stream.
    last: int


@dataclass(frozen=True, slots=True)
class Views:
    """Several aggregates as of one cursor, by subject; those without an event are not there."""

    states: Mapping[str, Any]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Past(Generic[State]):
    """An aggregate now, and as it was."""

    now: View[State]
    # None where its first events have aged out, or it did not exist yet.
    then: State | None
    # The sequence of its first event.
    first: int
