"""Folds: aggregates read from the stream by their exact subjects, and kept in memory as a start for the next reading.

Law: a fold holds every event of its subject up to its last one, and no other. What is in memory may be behind;
`confirm` asks the stream's leader how much there is, since any copy may answer a direct get, also one that is behind.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from nats.aio.client import Client

from contracts.registry import Registry
from services.chassis import jetstream
from services.chassis.aggregates import Aggregate, Fold, Target
from services.chassis.direct import DirectGetFailed, Stored, has, read_subject
from services.chassis.directory import Behind, Codec, Directory, Note
from services.chassis.jetstream import JetStreamError
from services.chassis.storemetrics import StoreMetrics
from services.chassis.streams import NATS_ERRORS

State = TypeVar("State")

MOST_FOLDS = 10_000
# A fold of so many events more than its last snapshot gets another.
SNAPSHOT_EVENTS = 200
# What reading fails with where NATS is away or does not answer as it should.
UNTOLD = (*NATS_ERRORS, JetStreamError, DirectGetFailed, Behind, TimeoutError)
_EXTENT_SECONDS = 2.0
# A copy of the stream that is behind is asked again after this.
_BEHIND_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Extent:
    """What the leader says of a stream and of some of its subjects."""

    epoch: str
    # The stream's last sequence, read before the counts.
    last: int
    # Subject -> how many events it has.
    counts: Mapping[str, int]


class Folds:
    """The folds of one service."""

    def __init__(
        self, directory: Directory, registry: Registry, metrics: StoreMetrics, most_folds: int = MOST_FOLDS
    ) -> None:
        self._most_folds = most_folds
        self._directory = directory
        self._registry = registry
        self._metrics = metrics
        # Subject -> fold; the least lately used goes first.
        self._folds: OrderedDict[str, Fold[Any]] = OrderedDict()
        # Stream -> the life that they are of.
        self._epochs: dict[str, str] = {}
        self._codecs: dict[str, Codec[Any]] = {}

    def live_in(self, stream: str, epoch: str) -> None:
        """The stream is in this life; what was read of another is forgotten."""
        if self._epochs.get(stream) != epoch:
            for subject in [one for one, fold in self._folds.items() if fold.target.aggregate.stream == stream]:
                del self._folds[subject]
            self._epochs[stream] = epoch

    def held(self, target: Target[State]) -> Fold[State] | None:
        """The fold in memory, as old as it is."""
        fold = self._folds.get(target.subject)
        if fold is not None:
            self._folds.move_to_end(target.subject)
        return fold

    def forget(self, target: Target[Any]) -> None:
        """It is not to be believed any more."""
        self._folds.pop(target.subject, None)

    def keep(self, fold: Fold[Any]) -> None:
        """Have it at hand for the next reading."""
        self._folds[fold.target.subject] = fold
        self._folds.move_to_end(fold.target.subject)
        if len(self._folds) > self._most_folds:
            self._folds.popitem(last=False)

    async def load(self, client: Client, target: Target[State]) -> Fold[State]:
        """The fold in memory, else as the copy that answers has it."""
        fold = self.held(target)
        if fold is None:
            fold = Fold(target)
            await self._read_on(client, fold)
            # Another reader may have been faster; two folds of one subject would grow apart.
            fold = self._newer(fold)
            self.keep(fold)
        return fold

    def _newer(self, fold: Fold[State]) -> Fold[State]:
        other = self._folds.get(fold.target.subject)
        return other if other is not None and other.last >= fold.last else fold

    async def extent(self, client: Client, stream: str, subject_filter: str) -> Extent:
        """The stream's end and how many events each subject of the filter has, as the leader tells."""
        body = {"subjects_filter": subject_filter}
        info = await jetstream.request(client, f"STREAM.INFO.{stream}", body, seconds=_EXTENT_SECONDS)
        state = jetstream.state_of(info)
        self.live_in(stream, state.epoch)
        return Extent(state.epoch, state.last, info["state"].get("subjects") or {})

    async def confirm(self, client: Client, target: Target[State]) -> tuple[Fold[State], Extent]:
        """The fold with everything that was stored when this was called, and the extent that says so."""
        found = await self.extent(client, target.aggregate.stream, target.subject)
        return await self.whole(client, target, found.counts.get(target.subject, 0)), found

    async def whole(self, client: Client, target: Target[State], count: int) -> Fold[State]:
        """The fold with everything that is stored now, of which `count` events were there a moment ago."""
        if target.aggregate.ended is None:
            return await self.complete(client, target, count)
        # Where events age out, how many there are does not tell how many there were.
        return await self.reach(client, target, await self._last(client, target) if count else 0)

    async def _last(self, client: Client, target: Target[Any]) -> int:
        """The sequence of the subject's last event, as the leader tells."""
        query = {"last_by_subj": target.subject}
        try:
            found = await jetstream.request(client, f"STREAM.MSG.GET.{target.aggregate.stream}", query)
        except JetStreamError as error:
            if error.code == jetstream.NO_MESSAGE:
                return 0
            raise
        sequence: int = found["message"]["seq"]
        return sequence

    async def complete(self, client: Client, target: Target[State], count: int) -> Fold[State]:
        """The fold with at least so many events; a copy that does not have them yet is asked again."""
        fold = await self.load(client, target)
        while fold.count < count:
            before = fold.count
            await self._read_on(client, fold)
            if fold.count == before:
                await asyncio.sleep(_BEHIND_SECONDS)
        return fold

    async def reach(self, client: Client, target: Target[State], last: int | None) -> Fold[State]:
        """The fold up to the sequence that a conflict told of; None where it told of none."""
        fold = self.held(target)
        if fold is not None and last is not None and last < fold.last:
            self.forget(target)  # the stream was made again, or this was told of another subject
        if last is None:
            return (await self.confirm(client, target))[0]
        fold = await self.load(client, target)
        while fold.last < last:
            before = fold.last
            await self._read_on(client, fold)
            if fold.last == before:
                await asyncio.sleep(_BEHIND_SECONDS)
        return fold

    async def as_of(self, client: Client, target: Target[State], count: int, last: int) -> Fold[State]:
        """The fold of the events up to `last`, of which there are at most `count`."""
        fold = await self.whole(client, target, count)
        return fold if fold.last <= last else await self.until(client, target, last)

    async def until(self, client: Client, target: Target[State], last: int) -> Fold[State]:
        """A fold of its own, of the events up to `last`; without a state where the first ones have aged out."""
        older = Fold(target)
        await self._read_on(client, older, last)
        return older

    async def snapshot(self, client: Client, target: Target[Any]) -> None:
        """Write a snapshot of everything that is stored now, due or not."""
        fold, _ = await self.confirm(client, target)
        fold.snapshot_count = -SNAPSHOT_EVENTS
        await self.note(client, fold)

    async def _read_on(self, client: Client, fold: Fold[Any], upto: int | None = None) -> None:
        """Apply what follows, up to `upto`; from a snapshot where there is much of it."""
        target, began_at = fold.target, fold.count
        may_skip = fold.last == 0
        if may_skip and target.aggregate.ended is not None:
            may_skip = False
            await self._skip_ahead(client, fold, upto)
        after, more = fold.last, True
        while more:
            batch = await read_subject(client, target.aggregate.stream, target.subject, after)
            for stored in batch.messages:
                if upto is not None and stored.sequence > upto:
                    return
                self._apply(fold, stored)
            more = batch.more and bool(batch.messages)
            if more and may_skip:
                may_skip = False
                await self._skip_ahead(client, fold, upto)
            after = max(fold.last, batch.messages[-1].sequence) if batch.messages else after
        self._metrics.folded.labels(target.aggregate.kind).inc(fold.count - began_at)
        if upto is None and self.is_due(fold):
            await self.note(client, fold)

    def _apply(self, fold: Fold[Any], stored: Stored) -> None:
        if stored.sequence > fold.last:
            event = self._registry.read(json.loads(stored.payload))
            fold.apply(stored.sequence, event.data, event.envelope.causationid)

    async def _skip_ahead(self, client: Client, fold: Fold[Any], upto: int | None) -> None:
        target = fold.target
        epoch = self._epochs.get(target.aggregate.stream, "")
        note = await self._directory.snapshot(client, target, epoch)
        if note is None or note.snapshot is None:
            return
        later = self._codec(target.aggregate).fold(target, note)
        # One of events that are not there would make every append a conflict: the stream says what is true.
        if later is None or not await self._is_true(client, later):
            self._metrics.snapshots.labels("unusable").inc()
        elif fold.count < later.count and (upto is None or later.last <= upto):
            self._metrics.snapshots.labels("used").inc()
            fold.become(later)

    async def _is_true(self, client: Client, fold: Fold[Any]) -> bool:
        """Whether the stream has the last event of a fold, or had it: what is over may have aged out."""
        target = fold.target
        return fold.is_over or await has(client, target.aggregate.stream, target.subject, fold.last)

    @staticmethod
    def is_due(fold: Fold[Any]) -> bool:
        """Whether it has grown enough since its last snapshot for another, or is over and has none."""
        since = fold.count - fold.snapshot_count
        return since >= SNAPSHOT_EVENTS or (since > 0 and fold.is_over)

    async def note(self, client: Client, fold: Fold[Any]) -> None:
        """Write where the aggregate is, with a snapshot where its fold is long."""
        target = fold.target
        snapshot = None
        if self.is_due(fold):
            fold.snapshot_count = fold.count
            snapshot = self._codec(target.aggregate).snapshot(fold)
            self._metrics.snapshots.labels("written").inc()
        found = Note(self._epochs.get(target.aggregate.stream, ""), target.subject, fold.first, snapshot)
        await self._directory.note(client, target.aggregate, target.id, found)

    def _codec(self, aggregate: Aggregate[State]) -> Codec[State]:
        found = self._codecs.get(aggregate.kind)
        if found is None:
            found = self._codecs[aggregate.kind] = Codec(aggregate)
        return found
