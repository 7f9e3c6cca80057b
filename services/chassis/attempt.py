"""One change under way: decide, append, and where that was not the end of it read what happened and decide again.

The events of one cause bear ids that follow from it, so an append whose answer was lost is recognised in the fold,
and one that is sent again is stored once.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from nats.aio.client import Client
from pydantic import BaseModel

from contracts.contract import ContractViolation, Violation
from contracts.cursor import Cursor
from contracts.envelope import Publication
from contracts.errors import ErrorCode, Problem, Refused
from contracts.publishing import new_event
from contracts.registry import Registry
from services.chassis.aggregates import Cause, Change, Decision, Fold, Target
from services.chassis.append import Ack, Conflict, Expected, NotAcknowledged, append
from services.chassis.folds import UNTOLD, Folds
from services.chassis.storemetrics import StoreMetrics
from services.chassis.streams import Life, Streams
from services.chassis.tasks import is_wanted

# How often others may have been faster.
_DECISIONS = 8
_LONGEST_JITTER_SECONDS = 0.02
# Between two sends of which nothing was heard.
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Publisher:
    """What every change of one service needs: where it reads, where it writes, and what its events bear."""

    folds: Folds
    streams: Streams
    registry: Registry
    source: str
    clock: Callable[[], datetime]
    metrics: StoreMetrics
    ack_seconds: float
    # Model -> type, of the newest versions.
    kinds: Mapping[type[BaseModel], str]

    def publications(
        self, targets: Sequence[Target[Any]], cause: Cause, decided: Sequence[BaseModel]
    ) -> list[Publication]:
        """What was decided as events, in order.

        Raises:
            ContractViolation: it does not fit, or belongs to none of the targets.
        """
        positions: dict[str, int] = {}
        found = []
        for data in decided:
            document = self._document(targets, cause, data, positions)
            found.append(self.registry.publication(document))
        return found

    def _document(
        self, targets: Sequence[Target[Any]], cause: Cause, data: BaseModel, positions: dict[str, int]
    ) -> dict[str, Any]:
        kind = self._kind(data)
        document = new_event(
            kind,
            data,
            id="-",
            source=self.source,
            time=self.clock(),
            causationid=str(cause),
            traceparent=cause.traceparent,
            given=self._given(kind, targets[0]),
            registry=self.registry,
        )
        subject = document["subject"]
        target = next((one for one in targets if one.subject == subject), None)
        if target is None:
            raise ContractViolation(
                [Violation("/subject", f"{subject} is none of the aggregates that were decided on")]
            )
        position = positions[subject] = positions.get(subject, -1) + 1
        correlation = document["data"].get(target.aggregate.correlation)
        found = {
            "id": cause.event_id(subject, position),
            "correlationid": correlation,
            "final": target.aggregate.is_final(data) or None,
        }
        return {**document, **{name: value for name, value in found.items() if value is not None}}

    def _given(self, kind: str, target: Target[Any]) -> dict[str, str]:
        """The tokens that the data does not tell, from the aggregate's own subject."""
        contract = self.registry.newest(kind)
        if contract is None or not contract.given:
            return {}
        layout = target.aggregate.layout
        values = dict(zip(layout.tokens, layout.parse(target.subject), strict=True))
        return {token: values[token] for token in contract.given if token in values}

    def _kind(self, data: BaseModel) -> str:
        kind = self.kinds.get(type(data))
        if kind is None:
            raise ContractViolation([Violation("/type", f"{type(data).__name__} is no newest contract's data")])
        return kind


class Attempt:
    """One cause on its way into its aggregates; the first of them is the one that remembers it."""

    def __init__(
        self,
        publisher: Publisher,
        client: Client,
        life: Life,
        targets: Sequence[Target[Any]],
        cause: Cause,
        decide: Callable[[Sequence[Any]], Decision],
    ) -> None:
        self._publisher = publisher
        self._folds = publisher.folds
        self._client = client
        self._life = life
        self._targets = targets
        self._cause = cause
        self._decide = decide

    async def run(self, *, is_new: bool) -> Change[Any]:
        """Until it is stored, refused, or others were faster too often."""
        folds = [self._folds.held(one) or Fold(one) for one in self._targets] if is_new else await self._load()
        confirmed = False
        lost = 0
        while lost < _DECISIONS:
            repeated = self._repeated(folds[0])
            if repeated is not None:
                return repeated
            decided = self._decide([fold.state for fold in folds])
            if isinstance(decided, Problem) or not decided:
                if confirmed:
                    return self._nothing(folds[0], decided)
                folds = await self._confirm()
                confirmed = True
                continue
            try:
                return await self._append(folds, decided)
            except Conflict as conflict:
                lost += 1
                self._publisher.metrics.retries.labels("conflict").inc()
                folds = await self._until_told(partial(self._reach, conflict.last))
                if self._repeated(folds[0]) is None:
                    await asyncio.sleep(random.uniform(0, _LONGEST_JITTER_SECONDS))  # noqa: S311  # spread, not secret
            except NotAcknowledged:
                self._publisher.metrics.retries.labels("not_acknowledged").inc()
                folds = await self._until_told(self._confirm)
            confirmed = False
        raise Refused(Problem(ErrorCode.CONFLICT, retry_after_ms=1000))

    async def _until_told(self, read: Callable[[], Awaitable[list[Fold[Any]]]]) -> list[Fold[Any]]:
        """Read on when NATS is back: what became of an append is only to be told then. The deadline is the caller's."""
        while is_wanted():
            try:
                return await read()
            except UNTOLD:
                await asyncio.sleep(_PAUSE_SECONDS)
        raise asyncio.CancelledError

    async def _load(self) -> list[Fold[Any]]:
        return [await self._folds.load(self._client, target) for target in self._targets]

    async def _confirm(self) -> list[Fold[Any]]:
        return [(await self._folds.confirm(self._client, target))[0] for target in self._targets]

    async def _reach(self, last: int | None) -> list[Fold[Any]]:
        """Of several aggregates a conflict does not tell which one changed."""
        if len(self._targets) > 1:
            return await self._confirm()
        return [await self._folds.reach(self._client, self._targets[0], last)]

    def _repeated(self, fold: Fold[Any]) -> Change[Any] | None:
        handled = fold.handled.get(self._cause.key)
        if handled is None:
            return None
        if handled.fingerprint != self._cause.fingerprint:
            raise Refused(Problem(ErrorCode.IDEMPOTENCY_KEY_REUSED))
        return Change(fold.state, self._cursor(handled.sequence), repeated=True)

    def _nothing(self, fold: Fold[Any], decided: Decision) -> Change[Any]:
        if isinstance(decided, Problem):
            raise Refused(decided)
        return Change(fold.state, self._cursor(fold.last))

    def _cursor(self, sequence: int) -> Cursor:
        return Cursor(self._targets[0].aggregate.stream, self._life.epoch, sequence)

    async def _append(self, folds: Sequence[Fold[Any]], decided: Sequence[BaseModel]) -> Change[Any]:
        publications = self._publisher.publications(self._targets, self._cause, decided)
        by_subject = {fold.target.subject: fold for fold in folds}
        expected: list[Expected] = []
        for publication in publications:
            is_first = all(one.publication.subject != publication.subject for one in expected)
            expected.append(Expected(publication, by_subject[publication.subject].last if is_first else None))
        life, floor, began = self._life, self._life.last, time.perf_counter()
        ack = await append(self._client, expected, self._publisher.ack_seconds)
        self._publisher.metrics.append_seconds.observe(time.perf_counter() - began)
        if ack.duplicate:
            raise Conflict  # an earlier send of ours got in; what it said is in the stream
        if ack.sequence <= floor:
            self._life = await self._publisher.streams.next_life(self._client, self._targets[0].aggregate.stream, life)
            self._folds.live_in(self._targets[0].aggregate.stream, self._life.epoch)
        self._life.last = max(self._life.last, ack.sequence)
        return await self._applied(by_subject, publications, decided, ack)

    async def _applied(
        self, folds: dict[str, Fold[Any]], publications: Sequence[Publication], decided: Sequence[BaseModel], ack: Ack
    ) -> Change[Any]:
        """Take our own events in, without reading them."""
        for offset, (publication, data) in enumerate(zip(publications, decided, strict=True)):
            fold = folds[publication.subject]
            fold.apply(ack.sequence - len(decided) + 1 + offset, data, str(self._cause))
        for fold in {one.subject: folds[one.subject] for one in publications}.values():
            self._folds.keep(fold)
            if fold.count <= len(decided) or self._folds.is_due(fold):
                await self._folds.note(self._client, fold)
        first = folds[self._targets[0].subject]
        handled = first.handled.get(self._cause.key)
        # The first aggregate's own, so that a repetition is told the same.
        return Change(first.state, self._cursor(handled.sequence if handled else ack.sequence), tuple(decided))
