"""`A2aEventQueue`: A2A events in and out of JetStream. In by the plan's aggregate, out by cursor, without a gap.

A subscription holds one page of events and no more, however far behind it is: it reads the stream from its cursor by
direct get, and is woken by the subject's own messages. So a connection that breaks, a server that starts again and a
reader that sleeps cost nothing but time. What cannot be had any more is told as an `A2aGap`, never skipped.
"""

import asyncio
import contextlib
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.a2a import A2aEvent, StatusUpdate, from_stored
from contracts.contract import ContractViolation
from contracts.cursor import Cursor, epoch_is_older
from contracts.errors import Refused
from contracts.registry import REGISTRY
from contracts.subjects import PLAN
from services.chassis import jetstream
from services.chassis.aggregates import Cause, Target
from services.chassis.direct import Batch, direct_get
from services.chassis.folds import UNTOLD
from services.chassis.store import unavailable
from services.chassis.streams import Streams
from services.plans import domain
from services.plans.domain import Plan
from services.plans.ledger import Ledger

STREAM = "PLANS"
_PAGE_EVENTS = 128
_PAGE_BYTES = 1024 * 1024
# A page that was asked for when the line broke never comes: asked for again after this.
_READ_SECONDS = 2.0
# A wake-up may come before its event can be read: looked for again after this, and then after twice as long.
_FIRST_PAUSE_SECONDS = 0.002
# Where nothing wakes us: a wake-up is core NATS and may be lost.
_LONGEST_PAUSE_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
# A store that does not answer is told the same again after this.
_AWAY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class A2aGap:
    """Events in (start, cursor] may be missing; what follows is after `cursor`."""

    # `expired`, `recreated` or `ahead`.
    reason: str
    start: Cursor
    cursor: Cursor


Item = A2aEvent | A2aGap


class QueueClosed(Exception):
    """The queue was closed; nothing was published."""


class A2aSubscription:
    """Events after a cursor, in order: an async iterator that ends with the plan, or when it is closed."""

    def __init__(self, queue: "A2aEventQueue", subject: str, after: Cursor | None, *, of_one: bool) -> None:
        self._queue = queue
        self._subject = subject
        # What was delivered or passed; None until it is known where the stream is.
        self.cursor = after
        # Whether it is one plan's, and ends with it.
        self._of_one = of_one
        # At most one page.
        self._page: deque[Item] = deque()
        self._awake = asyncio.Event()
        self._closed = False
        self._ended = False
        self._wakes: Subscription | None = None
        # When the stream's life was last looked at.
        self._checked_at = float("-inf")

    async def open(self, client: Client) -> None:
        """Know where to begin, and be woken from now on."""
        self._wakes = await client.subscribe(self._subject, cb=self._wake)
        try:
            found = await jetstream.state(client, STREAM)
        except BaseException:
            await self.close()
            raise
        if self.cursor is None:
            self.cursor = Cursor(STREAM, found.epoch, found.last)
        else:
            self._judge(found)

    def end(self) -> None:
        """Nothing follows what is at hand."""
        self._ended = True

    async def _wake(self, _: Msg) -> None:
        self._awake.set()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        pause = _FIRST_PAUSE_SECONDS
        while not self._closed and not (self._ended and not self._page):
            if self._page:
                item = self._page.popleft()
                self.cursor = item.cursor
                if self._of_one and isinstance(item, StatusUpdate) and item.is_final:
                    self._ended = True
                    self._page.clear()
                return item
            self._awake.clear()
            with contextlib.suppress(*UNTOLD):  # NATS is away: the cursor is where it was
                await self._read()
            if not self._page:
                was_woken = await self._rest(pause)
                pause = _FIRST_PAUSE_SECONDS if was_woken else min(2 * pause, _LONGEST_PAUSE_SECONDS)
        await self.close()
        raise StopAsyncIteration

    async def _rest(self, seconds: float) -> bool:
        """Wait; whether something woke us."""
        try:
            await asyncio.wait_for(self._awake.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _read(self) -> None:
        client = await self._queue.client()
        # The stream's life is looked at now and then, not with each page: a page of another life would begin anew.
        now = asyncio.get_running_loop().time()
        if now - self._checked_at > _LONGEST_PAUSE_SECONDS:
            self._judge(await jetstream.state(client, STREAM))
            self._checked_at = now
        cursor = self.cursor
        if cursor is None or self._page:
            return
        query = {
            "seq": cursor.sequence + 1,
            "next_by_subj": self._subject,
            "batch": _PAGE_EVENTS,
            "max_bytes": _PAGE_BYTES,
        }
        self._take(await direct_get(client, STREAM, query, _READ_SECONDS), cursor.epoch)

    def _take(self, batch: Batch, epoch: str) -> None:
        for one in batch.messages:
            at = Cursor(STREAM, epoch, one.sequence)
            try:
                event = from_stored(REGISTRY.read(json.loads(one.payload)), at)
            except (ValueError, ContractViolation):
                event = None  # no event of a plan: cursors pass it
            if event is not None:
                self._page.append(event)
            elif not self._page:
                self.cursor = at

    def _judge(self, found: jetstream.StreamState) -> None:
        """Name what cannot be had after the cursor."""
        cursor, end = self.cursor, Cursor(STREAM, found.epoch, found.last)
        if cursor is None:
            return
        gap: A2aGap | None = None
        if cursor.epoch != found.epoch:
            begin = Cursor(STREAM, found.epoch, found.first - 1)
            reason = "recreated" if epoch_is_older(cursor.epoch, found.epoch) else "ahead"
            gap = A2aGap(reason, cursor, begin if reason == "recreated" else end)
        elif cursor.sequence + 1 < found.first:
            gap = A2aGap("expired", cursor, Cursor(STREAM, found.epoch, found.first - 1))
        elif cursor.sequence > found.last:
            gap = A2aGap("ahead", cursor, end)
        if gap is not None:
            self._page.clear()
            self._page.append(gap)
            self.cursor = gap.cursor

    async def close(self) -> None:
        """Release everything it holds; who waits for it is told that it ended. May be called again."""
        self._closed = True
        self._awake.set()
        self._page.clear()
        self._queue.forget(self)
        wakes, self._wakes = self._wakes, None
        if wakes is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await wakes.unsubscribe()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class A2aEventQueue:
    """Where a plan's events go in and come out. One a process serves all its plans; `speaking` is one executor's."""

    def __init__(self, ledger: Ledger, streams: Streams, *, execution: int | None = None) -> None:
        """`execution` tells in whose name it publishes, where plans are executed by services/plans."""
        self._ledger = ledger
        self._streams = streams
        self._execution = execution
        self._subscriptions: set[A2aSubscription] = set()
        self._closed = False

    def speaking(self, execution: int) -> "A2aEventQueue":
        """The same, for one execution: what it publishes is refused once another has taken over."""
        return A2aEventQueue(self._ledger, self._streams, execution=execution)

    async def publish(self, event: A2aEvent, *, key: str | None = None) -> Cursor:
        """Store it; its cursor, once it is stored. The same `key` again stores nothing.

        In an execution's name it waits while the store is away: no plan fails because nobody could be told of it.

        Raises:
            Refused: the plan is unknown or over, another execution has taken over, it is too large, or does not fit.
            QueueClosed: `close` was called.
        """
        target = self._ledger.target(event.owner, event.plan_id)
        cause = Cause(key or f"publish:{uuid.uuid4()}")
        while not self._closed:
            try:
                change = await self._ledger.change(
                    target, cause, lambda plan: domain.publish(plan, event.data, execution=self._execution)
                )
            except Refused as error:
                if self._execution is None or not error.problem.may_retry:
                    raise
                await asyncio.sleep(_AWAY_SECONDS)
            else:
                return change.cursor
        raise QueueClosed

    async def subscribe(
        self, plan_id: str | None = None, *, owner: str | None = None, after: Cursor | None = None
    ) -> A2aSubscription:
        """Events after a cursor, else from now on: of one plan until its end, of one owner, or of all plans.

        With plan and owner both told it reads one exact subject; a plan whose owner is not told is looked for once.
        Where a plan is over and nothing of it follows the cursor, the subscription has ended when it begins.

        Raises:
            InvalidSubject: `plan_id` or `owner` is no id.
            Refused: `store_unavailable`.
            QueueClosed: `close` was called.
        """
        if self._closed:
            raise QueueClosed
        target = None if plan_id is None else await self._target(plan_id, owner)
        found = A2aSubscription(self, _subject(plan_id, owner, target), after, of_one=plan_id is not None)
        self._subscriptions.add(found)
        try:
            await found.open(await self.client())
            if target is not None and await self._is_behind(target, found.cursor):
                found.end()
        except BaseException as error:
            await found.close()
            if isinstance(error, UNTOLD):
                raise unavailable(str(error) or type(error).__name__) from error
            raise
        return found

    async def unsubscribe(self, subscription: A2aSubscription) -> None:
        """End a subscription; whoever iterates over it is told that it ended."""
        await subscription.close()

    async def close(self) -> None:
        """End all subscriptions; nothing can be published through it any more."""
        self._closed = True
        for subscription in list(self._subscriptions):
            await subscription.close()

    async def client(self) -> Client:
        """The connection.

        Raises:
            TimeoutError: NATS is away.
        """
        client = await self._streams.client(_CONNECT_SECONDS)
        if client is None:
            raise TimeoutError("NATS is away")
        return client

    def forget(self, subscription: A2aSubscription) -> None:
        """It has ended."""
        self._subscriptions.discard(subscription)

    async def _target(self, plan_id: str, owner: str | None) -> Target[Plan] | None:
        if owner is not None:
            return self._ledger.target(owner, plan_id)
        PLAN.build({"plan": plan_id})  # an id; a wild-card would be everybody's plans
        return await self._ledger.find(plan_id)

    async def _is_behind(self, target: Target[Plan], cursor: Cursor | None) -> bool:
        """Whether the plan is over, and all of it lies before the cursor."""
        found = await self._ledger.view(target)
        is_over = found.state is not None and found.state.is_over
        return is_over and cursor is not None and cursor.epoch == found.cursor.epoch and found.last <= cursor.sequence


def _subject(plan_id: str | None, owner: str | None, target: Target[Plan] | None) -> str:
    """What a subscription reads."""
    if target is not None:
        return target.subject
    keys = {name: value for name, value in (("owner", owner), ("plan", plan_id)) if value is not None}
    PLAN.build(keys)
    return PLAN.filter(keys)
