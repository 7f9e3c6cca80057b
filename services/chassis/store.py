"""The event store of aggregates: finds one, reads one, and changes one by an append that expects its last event.

Law: what was decided is stored only if nothing happened to the aggregate in between, and once, however often the
same cause comes and whatever became of an answer. Before anything is refused or answered on the ground of a fold,
the stream's leader has confirmed that nothing is missing in it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from nats.aio.client import Client

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.registry import REGISTRY, Registry
from services.chassis.aggregates import Aggregate, Cause, Change, Decision, Past, Target, View, Views
from services.chassis.attempt import Attempt, Publisher
from services.chassis.directory import Directory
from services.chassis.folds import MOST_FOLDS, UNTOLD, Folds
from services.chassis.storemetrics import StoreMetrics
from services.chassis.streams import Life, Streams

State = TypeVar("State")

_RETRY_MS = 1000
_READS_AT_ONCE = 16


class EventStore:
    """Finds, reads and changes aggregates; one a service."""

    def __init__(
        self,
        streams: Streams,
        directory: Directory,
        *,
        source: str,
        metrics: StoreMetrics,
        registry: Registry = REGISTRY,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ack_seconds: float = 2.0,
        deadline_seconds: float = 10.0,
        most_folds: int = MOST_FOLDS,
    ) -> None:
        """`source` is what its events bear; everything is answered within `deadline_seconds`."""
        self._streams = streams
        self._directory = directory
        self._metrics = metrics
        self._folds = Folds(directory, registry, metrics, most_folds)
        kinds = {contract.model: contract.type for contract in registry if not contract.deprecated}
        self._publisher = Publisher(self._folds, streams, registry, source, clock, metrics, ack_seconds, kinds)
        self._ack_seconds = ack_seconds
        self._deadline_seconds = deadline_seconds
        # Subject -> its lock, and how many hold it or wait: in one process nobody has to lose a race.
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    async def find(self, aggregate: Aggregate[State], aggregate_id: str) -> Target[State] | None:
        """The aggregate with this id, or None where there is none.

        Raises:
            Refused: `store_unavailable`.
        """
        async with self._told():
            client, life = await self._site(aggregate.stream)
            subject = await self._directory.find(client, aggregate, aggregate_id, life.epoch)
            return None if subject is None else Target(aggregate, subject)

    async def change(
        self, target: Target[State], cause: Cause, decide: Callable[[State | None], Decision], *, is_new: bool = False
    ) -> Change[State]:
        """Decide on the state and store what was decided; as `change_all`. `is_new`: nothing is expected there yet."""
        return await self.change_all([target], cause, lambda states: decide(states[0]), is_new=is_new)

    async def change_all(
        self,
        targets: Sequence[Target[Any]],
        cause: Cause,
        decide: Callable[[Sequence[Any]], Decision],
        *,
        is_new: bool = False,
    ) -> Change[Any]:
        """Decide on the states of several aggregates of one stream, and store what was decided, all or none.

        `decide` is called again where others were faster. A cause that has changed the first target before changes
        nothing, and gets the same answer.

        Raises:
            Refused: as `decide` says; `idempotency_key_reused`, `conflict`, `store_unavailable`, `store_full`.
            ContractViolation: what was decided does not fit its contract: a bug.
        """
        kind = targets[0].aggregate.kind
        try:
            async with self._told(), self._alone(targets):
                client, life = await self._site(targets[0].aggregate.stream)
                attempt = Attempt(self._publisher, client, life, targets, cause, decide)
                change = await attempt.run(is_new=is_new)
        except Refused as error:
            self._metrics.changes.labels(kind, error.problem.code.wire).inc()
            raise
        outcome = "stored" if change.events else "repeated" if change.repeated else "nothing"
        self._metrics.changes.labels(kind, outcome).inc()
        return change

    async def known(self, target: Target[State]) -> State | None:
        """The state as this process knows it, read only if it does not: maybe behind, so for what never changes.

        Raises:
            Refused: `store_unavailable`.
        """
        async with self._told():
            client, _ = await self._site(target.aggregate.stream)
            return (await self._folds.load(client, target)).state

    async def view(self, target: Target[State]) -> View[State]:
        """The state, and the cursor at which it holds.

        Raises:
            Refused: `store_unavailable`.
        """
        stream = target.aggregate.stream
        async with self._told():
            client, _ = await self._site(stream)
            fold, extent = await self._folds.confirm(client, target)
            return View(fold.state, Cursor(stream, extent.epoch, max(extent.last, fold.last)), fold.last)

    async def past(self, target: Target[State], last: int) -> Past[State]:
        """The aggregate now, and as of the sequence `last`.

        Raises:
            Refused: `store_unavailable`.
        """
        async with self._told():
            client, _ = await self._site(target.aggregate.stream)
            fold, extent = await self._folds.confirm(client, target)
            cursor = Cursor(target.aggregate.stream, extent.epoch, max(extent.last, fold.last))
            now = View(fold.state, cursor, fold.last)
            first = fold.first
            then = await self._folds.until(client, target, last)
            return Past(now, then.state, first)

    async def snapshot(self, target: Target[Any]) -> None:
        """Write a snapshot of it as it is now.

        Raises:
            Refused: `store_unavailable`.
        """
        async with self._told():
            client, _ = await self._site(target.aggregate.stream)
            await self._folds.snapshot(client, target)

    def release(self, target: Target[Any]) -> None:
        """Nobody will ask for it soon: it need not be at hand."""
        self._folds.forget(target)

    async def view_all(self, aggregates: Iterable[Aggregate[Any]], subject_filter: str) -> Views:
        """Every aggregate of these kinds, all of one stream, whose subject the filter takes, as of one cursor.

        Raises:
            Refused: `store_unavailable`.
        """
        kinds = {aggregate.kind: aggregate for aggregate in aggregates}
        stream = next(iter(kinds.values())).stream
        async with self._told():
            client, _ = await self._site(stream)
            extent = await self._folds.extent(client, stream, subject_filter)
            wanted = [
                (Target(kinds[kind], subject), count)
                for subject, count in extent.counts.items()
                if (kind := subject.rsplit(".", 2)[1]) in kinds
            ]
            found = await asyncio.gather(*(self._as_of(client, one, count, extent.last) for one, count in wanted))
        return Views(dict(one for one in found if one is not None), Cursor(stream, extent.epoch, extent.last))

    async def _as_of(self, client: Client, target: Target[Any], count: int, last: int) -> tuple[str, Any] | None:
        """Subject and state; the state is taken at once, since a fold in memory grows on while others are read."""
        async with self._reads:
            fold = await self._folds.as_of(client, target, count, last)
            return (target.subject, fold.state) if fold.count else None

    async def _site(self, stream: str) -> tuple[Client, Life]:
        """The connection and the stream's present life.

        Raises:
            Refused: `store_unavailable`.
        """
        client = await self._streams.client(self._ack_seconds)
        if client is None:
            raise unavailable("NATS is away")
        life = await self._streams.life(client, stream)
        self._folds.live_in(stream, life.epoch)
        return client, life

    @contextlib.asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Bounded in time; what NATS fails with is told as `store_unavailable`."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield
        except UNTOLD as error:
            raise unavailable(str(error) or type(error).__name__) from error

    @contextlib.asynccontextmanager
    async def _alone(self, targets: Sequence[Target[Any]]) -> AsyncIterator[None]:
        """Nobody else in this process changes these meanwhile; always taken in the same order."""
        async with contextlib.AsyncExitStack() as stack:
            for subject in sorted({target.subject for target in targets}):
                await stack.enter_async_context(self._lock(subject))
            yield

    @contextlib.asynccontextmanager
    async def _lock(self, subject: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(subject, (asyncio.Lock(), 0))
        self._locks[subject] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[subject][1] - 1
            if users:
                self._locks[subject] = (lock, users)
            else:
                del self._locks[subject]


def unavailable(why: str) -> Refused:
    """The event store cannot be told or asked now."""
    return Refused(Problem(ErrorCode.STORE_UNAVAILABLE, f"{why}; send the same request again", _RETRY_MS))
