"""The directory: an aggregate's id to its subject, and its latest snapshot, in the bucket ROUTES.

A cache and nothing more. What is missing, unreadable or of another life of the stream is found again in the events,
by wild-card from the replay mirror, never from the stream that takes the writes. Nobody waits until a note is
stored; one that is lost costs somebody a search.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import nats.errors
from nats.aio.client import Client
from pydantic import TypeAdapter, ValidationError
from structlog.stdlib import BoundLogger

from contracts.subjects import InvalidSubject
from contracts.topology import BUCKET_SUBJECTS, ROUTES
from services.chassis import jetstream
from services.chassis.aggregates import Aggregate, Fold, Handled, Target
from services.chassis.direct import newest_of
from services.chassis.prefix import bucket_prefix_of, prefix_of

State = TypeVar("State")

_GET_SECONDS = 2.0
_MOST_ROUTES = 50_000
# An id that nobody has is searched for once in this time, however often it is asked for.
_MISSING_SECONDS = 1.0
_MOST_MISSING = 10_000
# How long a search waits for a mirror that is behind.
_BEHIND_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.05
_LARGEST_NOTE = 512 * 1024


class Behind(Exception):
    """The mirror lacks events that the stream has; whether the id exists cannot be told now."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fold as it was at a sequence."""

    # Of which shape of state, and of which meaning of it: `Codec.revision`.
    revision: str
    last: int
    count: int
    state: Any
    handled: Mapping[str, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Note:
    """What the bucket holds of one aggregate."""

    # Of the stream's life in which it is true.
    epoch: str
    subject: str
    first: int
    snapshot: Snapshot | None = None


_NOTE = TypeAdapter(Note)


def key_of(aggregate: Aggregate[Any], aggregate_id: str) -> str:
    """An aggregate's key in the bucket."""
    return f"{aggregate.kind}.{aggregate_id}"


def _subject(key: str) -> str:
    return f"{BUCKET_SUBJECTS}.{ROUTES}.{key}"


def _write_subject(client: Client, key: str) -> str:
    return f"{bucket_prefix_of(client)}{_subject(key)}"


class Codec(Generic[State]):
    """A kind's states to and from JSON."""

    def __init__(self, aggregate: Aggregate[State]) -> None:
        self._state: TypeAdapter[State] = TypeAdapter(aggregate.state)
        # A field that was renamed and has a default would be read as one that was never set.
        shape = hashlib.sha256(json.dumps(self._state.json_schema(), sort_keys=True).encode()).hexdigest()[:16]
        self._revision = f"{aggregate.revision}.{shape}"

    def snapshot(self, fold: Fold[State]) -> Snapshot:
        """The fold as it is now."""
        handled = {key: (one.fingerprint, one.sequence) for key, one in fold.handled.items()}
        state = self._state.dump_python(fold.state, mode="json") if fold.state is not None else None
        return Snapshot(self._revision, fold.last, fold.count, state, handled)

    def fold(self, target: Target[State], note: Note) -> Fold[State] | None:
        """The fold of a snapshot; None where it is none, or not one that this revision can read."""
        made = note.snapshot
        if made is None or made.revision != self._revision or note.subject != target.subject:
            return None
        try:
            state = None if made.state is None else self._state.validate_python(made.state)
        except ValidationError:
            return None
        handled = {key: Handled(*one) for key, one in made.handled.items()}
        return Fold(target, state, note.first, made.last, made.count, handled, made.count)


class Directory:
    """Finds and notes; one a service."""

    def __init__(self, log: BoundLogger) -> None:
        self._log = log
        # Key -> subject, of the life `_epoch`; the least lately used goes first.
        self._routes: OrderedDict[str, str] = OrderedDict()
        self._epoch = ""
        # Key -> when it was last searched for and not there.
        self._missing: OrderedDict[str, float] = OrderedDict()
        # One search at a time: it costs the server time in proportion to the stream.
        self._searching = asyncio.Lock()

    async def find(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str, epoch: str) -> str | None:
        """The subject of the aggregate with this id, or None where nobody has it.

        Raises:
            Behind, DirectGetFailed, nats.errors.Error, TimeoutError: it cannot be told now.
        """
        self._live_in(epoch)
        key = key_of(aggregate, aggregate_id)
        known = self._routes.get(key)
        if known is not None:
            self._routes.move_to_end(key)
            return known
        note = await self.read(client, aggregate, aggregate_id, epoch)
        if note is not None:
            self.remember(aggregate, aggregate_id, note.subject, epoch)
            return note.subject
        async with self._searching:
            return await self._search(client, aggregate, aggregate_id, epoch)

    async def read(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str, epoch: str) -> Note | None:
        """What the bucket holds of it; None where that is nothing, or nothing that can be used."""
        key = key_of(aggregate, aggregate_id)
        try:
            answer = await client.request(
                f"{prefix_of(client)}.DIRECT.GET.KV_{ROUTES}.{_subject(key)}", timeout=_GET_SECONDS
            )
        except nats.errors.NoRespondersError:
            return None  # there is no bucket: a cache may be missing
        if not answer.data or "Nats-Sequence" not in (answer.headers or {}):
            return None
        try:
            note = _NOTE.validate_json(answer.data)
            is_its_own = aggregate.is_at(note.subject, aggregate_id)
        except (ValidationError, InvalidSubject):
            note, is_its_own = None, False
        if note is None or not is_its_own or note.epoch != epoch:
            self._log.warning("route_not_usable", key=key)
            return None
        return note

    async def snapshot(self, client: Client, target: Target[Any], epoch: str) -> Note | None:
        """The note with the aggregate's latest snapshot, where there is a usable one."""
        return await self.read(client, target.aggregate, target.id, epoch)

    async def _search(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str, epoch: str) -> str | None:
        key = key_of(aggregate, aggregate_id)
        if key in self._routes:  # whoever searched before us was looking for the same
            return self._routes[key]
        now = asyncio.get_running_loop().time()
        if now - self._missing.get(key, float("-inf")) < _MISSING_SECONDS:
            return None
        subject = await self._scan(client, aggregate, aggregate_id)
        if subject is None:
            self._missing[key] = now
            self._missing.move_to_end(key)
            if len(self._missing) > _MOST_MISSING:
                self._missing.popitem(last=False)
            return None
        await self.note(client, aggregate, aggregate_id, Note(epoch, subject, 0))
        return subject

    async def _scan(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str) -> str | None:
        mirror = f"{aggregate.stream}_REPLAY"
        upto = (await jetstream.state(client, aggregate.stream)).last
        deadline = asyncio.get_running_loop().time() + _BEHIND_SECONDS
        while True:
            stored = await newest_of(client, mirror, aggregate.filter(aggregate_id))
            if stored is not None:
                return stored.subject
            if (await jetstream.state(client, mirror)).last >= upto:
                return None
            if asyncio.get_running_loop().time() > deadline:
                raise Behind(f"{mirror} is behind {aggregate.stream}")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def note(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str, note: Note) -> None:
        """Write it, without waiting until it is stored."""
        self.remember(aggregate, aggregate_id, note.subject, note.epoch)
        payload = _NOTE.dump_json(note)
        if len(payload) > _LARGEST_NOTE:
            return
        with contextlib.suppress(nats.errors.Error):  # away, or its buffer is full: the cache does without
            await client.publish(_write_subject(client, key_of(aggregate, aggregate_id)), payload)

    def remember(self, aggregate: Aggregate[Any], aggregate_id: str, subject: str, epoch: str) -> None:
        """Keep it in memory."""
        self._live_in(epoch)
        key = key_of(aggregate, aggregate_id)
        self._missing.pop(key, None)
        self._routes[key] = subject
        self._routes.move_to_end(key)
        if len(self._routes) > _MOST_ROUTES:
            self._routes.popitem(last=False)

    def _live_in(self, epoch: str) -> None:
        if epoch != self._epoch:
            self._routes.clear()
            self._missing.clear()
            self._epoch = epoch
