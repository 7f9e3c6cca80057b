"""The worker: takes turns up to its bound, runs their executors, and brings each turn to an end that is stored.

Law: a turn is acknowledged only when its plan is over, waits for input, or has begun a later turn. What becomes of a
turn whose replica dies is JetStream's: another one gets it after the lease.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry, Counter, Gauge
from structlog.stdlib import BoundLogger

from contracts.errors import Refused
from services.chassis.aggregates import Cause
from services.chassis.jetstream import JetStreamError
from services.chassis.streams import NATS_ERRORS, Streams
from services.chassis.tasks import is_wanted
from services.plans import domain
from services.plans.domain import Plan
from services.plans.executor import PlanContext, PlanExecutor
from services.plans.ledger import Ledger
from services.plans.queue import A2aEventQueue
from services.plans.work import UNHEARD_SECONDS, ConsumerGone, Turn, Work

CANCELLED = "svc.plans.cancelled"
"""The subject on which replicas tell each other that a plan was cancelled."""
_TAKE_SECONDS = 2.0
_PAUSE_SECONDS = 0.1
_LOOK_AGAIN_SECONDS = 0.05
# The outcome of an execution whose turn another replica has in hand: to acknowledge it would be to take it away.
_ELSEWHERE = "elsewhere"
_LEAVE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much, and how long."""

    running: int
    lease_seconds: float
    cancel_seconds: float


class Worker:
    """One replica's."""

    def __init__(
        self,
        streams: Streams,
        ledger: Ledger,
        executor: PlanExecutor,
        bounds: Bounds,
        metrics: CollectorRegistry,
        log: BoundLogger,
    ) -> None:
        self._streams = streams
        self._ledger = ledger
        self._executor = executor
        self._queue = A2aEventQueue(ledger, streams)
        self._bounds = bounds
        self._log = log
        # Turn in hand -> the task that runs it; at most `bounds.running`.
        self._turns: dict[Turn, asyncio.Task[None]] = {}
        # Plan -> what is to be told to its executor when it is cancelled; only while it executes.
        self._executing: dict[str, tuple[PlanContext, asyncio.Task[None]]] = {}
        self._free = asyncio.Event()
        self._leaving = False
        # Why turns cannot be taken, for `/readyz`.
        self._trouble: str | None = "not yet looked for work"
        self._ended = Counter("a2a_plans_turns", "Turns that ended.", ["outcome"], registry=metrics)
        self._running = Gauge("a2a_plans_running", "Plans that execute here.", registry=metrics)
        self._running.set_function(lambda: len(self._turns))

    def failing(self) -> str | None:
        """Why it takes no work, for `/readyz`."""
        return self._trouble

    @property
    def queue(self) -> A2aEventQueue:
        """The queue of this process."""
        return self._queue

    def leave(self) -> None:
        """Take no more turns."""
        self._leaving = True

    async def run(self) -> None:
        """Take and run turns until cancelled; what is in hand then is given back."""
        beating = asyncio.create_task(self._beat())
        try:
            while is_wanted():
                await self._once()
        finally:
            beating.cancel()
            await self._give_back()
            await asyncio.wait([beating])

    async def _once(self) -> None:
        client = await self._streams.client(_TAKE_SECONDS)
        if client is None or self._streams.streams_failing() is not None:
            await asyncio.sleep(_PAUSE_SECONDS)
            return
        heard = None
        try:
            work = Work(client, self._bounds.lease_seconds)
            await work.declare()
            heard = await client.subscribe(CANCELLED, cb=self._hear)
            self._trouble = None
            await self._take_from(work, client)
        except (JetStreamError, ConsumerGone, *NATS_ERRORS) as error:
            self._trouble = f"no work can be taken: {str(error) or type(error).__name__}"
            self._log.warning("work_failing", why=self._trouble)
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            if heard is not None:
                with contextlib.suppress(*NATS_ERRORS):
                    await heard.unsubscribe()

    async def _take_from(self, work: Work, client: Client) -> None:
        """For some time; then the consumer is declared again, should somebody have deleted it."""
        rounds = 10
        while rounds and is_wanted() and client.is_connected:
            room = self._bounds.running - len(self._turns)
            if self._leaving or room <= 0:
                self._free.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._free.wait(), _TAKE_SECONDS)
                continue
            taken = await work.take(room, _TAKE_SECONDS, lambda turn: self._begin(turn, client))
            rounds -= not taken

    def _begin(self, turn: Turn, client: Client) -> None:
        task = asyncio.create_task(self._see_through(turn, client))
        self._turns[turn] = task
        task.add_done_callback(lambda ended: self._over(turn, ended))

    def _over(self, turn: Turn, task: "asyncio.Task[None]") -> None:
        del self._turns[turn]
        self._free.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Not acknowledged: it comes again after the lease, and is given up when it has failed so too often.
            self._log.error("turn_failed", plan=turn.plan_id, exc_info=error)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._bounds.lease_seconds / 3)
            for turn in list(self._turns):
                await turn.in_progress()

    async def _see_through(self, turn: Turn, client: Client) -> None:
        """The turn to its end; NATS being away only makes it last longer."""
        outcome = await _insisting(lambda: self._attempt(turn, client))
        self._ended.labels(outcome).inc()
        if outcome != _ELSEWHERE:
            await turn.done()

    async def _attempt(self, turn: Turn, client: Client) -> str:
        plan = await self._told(turn)
        ended = _end_of(turn, plan)
        if plan is None or ended is not None:
            return ended or "dropped"
        if plan.status.state.takes_input:
            return "waiting"
        if plan.execution < turn.execution:
            plan = await self._take_over(turn, client)
            ended = _end_of(turn, plan)
            if plan is None or ended is not None:
                return ended or "dropped"
        return await self._execute(turn, plan, client)

    async def _told(self, turn: Turn) -> Plan | None:
        """The plan, once it knows of this turn; None where it never will."""
        target = self._ledger.target(turn.owner, turn.plan_id)
        while is_wanted():
            plan = (await self._ledger.view(target)).state
            if plan is not None and plan.execution >= turn.first:
                return plan
            if (datetime.now(UTC) - turn.noted_at).total_seconds() > UNHEARD_SECONDS:
                return None
            await asyncio.sleep(_LOOK_AGAIN_SECONDS if plan is None else _PAUSE_SECONDS)
        raise asyncio.CancelledError

    async def _take_over(self, turn: Turn, client: Client) -> Plan | None:
        target, now = self._ledger.target(turn.owner, turn.plan_id), self._ledger.now()
        cause = Cause(f"takeover:{turn.execution}")
        change = await self._ledger.change(
            target, cause, lambda plan: domain.take_over(plan, execution=turn.execution, now=now)
        )
        if change.state is not None and change.state.is_over:
            self._log.error("executor_lost", plan=turn.plan_id)
            await turn.bury(client, "executor_lost: the plan has failed")
        else:
            self._log.warning("plan_taken_over", plan=turn.plan_id)
        return change.state

    async def _execute(self, turn: Turn, plan: Plan, client: Client) -> str:
        context = self._context(turn, plan)
        queue = self._queue.speaking(turn.execution)
        task = asyncio.create_task(self._carried_out(context, queue))
        if turn.plan_id in self._executing:  # given twice, after NATS was away: the earlier one is not heard any more
            self._executing[turn.plan_id][1].cancel()
        executing = self._executing[turn.plan_id] = (context, task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task], timeout=_LEAVE_SECONDS)
            raise
        finally:
            if self._executing.get(turn.plan_id) is executing:  # not a later execution of it
                del self._executing[turn.plan_id]
            await queue.close()
        # By itself: what has been executed is not executed again because nobody could be told of it.
        return await _insisting(lambda: self._concluded(turn, task, client))

    async def _carried_out(self, context: PlanContext, queue: A2aEventQueue) -> None:
        """An agent that wants its process to end ends its plan alone: others execute here, and elsewhere it is next."""
        try:
            await self._executor.execute(context, queue)
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"the executor raised {type(error).__name__}") from error

    async def _concluded(self, turn: Turn, task: "asyncio.Task[None]", client: Client) -> str:
        """What came of it; an executor that stopped in the middle ends its plan, whatever stopped it."""
        error = None if task.cancelled() else task.exception()
        target = self._ledger.target(turn.owner, turn.plan_id)
        plan = (await self._ledger.view(target)).state
        ended = _end_of(turn, plan)
        if plan is None or ended is not None:
            return ended or "dropped"
        if error is None and plan.status.state.takes_input:
            return "waiting"
        code, told = ("executor_failed", _line(error)) if error is not None else _UNFINISHED
        now = self._ledger.now()
        await self._ledger.change(
            target,
            Cause(f"fail:{turn.execution}"),
            lambda plan: domain.fail(plan, code=code, message=told, now=now, execution=turn.execution),
        )
        self._log.error(code, plan=turn.plan_id, exc_info=error)
        await turn.bury(client, f"{code}: {told}")
        return code

    def _context(self, turn: Turn, plan: Plan) -> PlanContext:
        if plan.asked is None:
            raise RuntimeError(f"plan {plan.plan_id} has a turn and nobody asked")
        return PlanContext(
            turn.owner,
            turn.plan_id,
            plan.context_id,
            plan.asked,
            domain.task(plan),
            turn.execution,
            turn.execution > turn.first,
            self._ledger.now,
        )

    async def _hear(self, message: Msg) -> None:
        """A plan was cancelled somewhere."""
        found = self._executing.get(message.data.decode("utf-8", "replace"))
        if found is None:
            return
        context, task = found
        try:
            async with asyncio.timeout(self._bounds.cancel_seconds):
                await self._executor.cancel(context, self._queue.speaking(context.execution))
        except Exception as error:  # noqa: BLE001  # whatever the agent's own code fails with, its task is to end
            self._log.warning("cancel_failed", plan=context.plan_id, error=_line(error))
        task.cancel()

    async def _give_back(self) -> None:
        """At the end: no turn is lost by an orderly leave, and none counts as lost."""
        turns = dict(self._turns)
        for task in turns.values():
            task.cancel()
        if turns:
            await asyncio.wait(turns.values(), timeout=_LEAVE_SECONDS)
        await self._release(list(turns))
        await self._queue.close()

    async def _release(self, turns: Sequence[Turn]) -> None:
        now = self._ledger.now()

        async def one(turn: Turn) -> None:
            target = self._ledger.target(turn.owner, turn.plan_id)
            with contextlib.suppress(Refused, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._ledger.change(
                        target,
                        Cause(f"release:{turn.execution}"),
                        lambda plan: domain.release(plan, execution=turn.execution, now=now),
                    )
            await turn.give_back()

        await asyncio.gather(*(one(turn) for turn in turns))


_UNFINISHED = ("executor_ended", "The executor ended in the middle of the plan.")


async def _insisting(act: Callable[[], Awaitable[str]]) -> str:
    """What `act` comes to, asked again while it is refused as worth a retry."""
    while is_wanted():
        try:
            return await act()
        except Refused as error:
            if not error.problem.may_retry:
                raise
        await asyncio.sleep(_PAUSE_SECONDS * random.uniform(1, 2))  # noqa: S311  # spread, not secret
    raise asyncio.CancelledError


def _end_of(turn: Turn, plan: Plan | None) -> str | None:
    """Why there is nothing more to do for this execution; None where there is."""
    if plan is None:
        return "dropped"
    if plan.is_over:
        return "over"
    if not turn.is_of(plan.execution):
        return "superseded"
    return _ELSEWHERE if plan.execution > turn.execution else None


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


async def tell_cancelled(client: Client, plan_id: str) -> None:
    """Tell all replicas that a plan was cancelled; a replica that does not hear it is refused its next word."""
    with contextlib.suppress(nats.errors.Error, OSError):
        await client.publish(CANCELLED, plan_id.encode())
