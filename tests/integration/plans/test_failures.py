"""What fails around a plan and costs it nothing: a lost consumer, a snapshot that is none, an agent that holds on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

import nats.errors
import pytest

from contracts.errors import Refused
from contracts.planrequests import CancelPlan, GetPlan, ListPlans, PlanAnswer, Refusal, StartPlan
from contracts.principal import Principal
from services.chassis import jetstream
from services.chassis.store import EventStore
from services.local.embedded import EmbeddedNats
from services.plans import queue, requests, store, work, worker
from services.plans.executor import PlanContext
from services.plans.queue import A2aEventQueue
from tests.harness.agents import Scripted
from tests.harness.events import fresh
from tests.harness.plans import Asker, message, planning, publishing_plans, state_of, texts_of
from tests.harness.streams import looking_at
from tests.harness.waiting import until


class Stubborn(Scripted):
    """Does not let go when it is told to."""

    ended: set[str] = set()  # noqa: RUF012  # of all of this process

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        try:
            await super().execute(context, queue)
        finally:
            self.ended.add(context.plan_id)

    async def cancel(self, context: PlanContext, queue: A2aEventQueue) -> None:
        if "loudly" in context.text:
            raise ValueError("not now")
        await asyncio.sleep(60)


def stubborn(_: float) -> Stubborn:
    """For `A2A_PLAN_EXECUTOR`."""
    return Stubborn()


class Late(Scripted):
    """Does nothing before it may."""

    is_called: ClassVar[asyncio.Event]
    may_begin: ClassVar[asyncio.Event]

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        self.is_called.set()
        await self.may_begin.wait()
        await super().execute(context, queue)


def late(_: float) -> Late:
    """For `A2A_PLAN_EXECUTOR`."""
    return Late()


@pytest.mark.parametrize(("text", "state"), [("say 2", "COMPLETED"), ("fail", "FAILED"), ("ask", "INPUT_REQUIRED")])
async def test_an_executor_outlasts_a_store_that_is_away_longer_than_anybody_waits_and_is_called_once(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, text: str, state: str
) -> None:
    Late.is_called, Late.may_begin, put_off = asyncio.Event(), asyncio.Event(), list[str]()
    told = EventStore._told

    @contextlib.asynccontextmanager
    async def telling(store: EventStore) -> AsyncIterator[None]:
        try:
            async with told(store):
                yield
        except Refused as error:
            put_off.append(error.problem.code.wire)
            raise

    monkeypatch.setattr(EventStore, "_told", telling)
    settings: Any = {"ack_timeout_s": 0.2, "store_deadline_s": 0.5, "plan_lease_s": 60}
    service = planning(fresh_nats.url, plan_executor=f"{__name__}:late", **settings)
    async with service, looking_at(fresh_nats.url) as client:
        ada, asked = Asker(client, fresh("ada")), StartPlan(message(text))

        async def begun() -> str | None:
            found = await ada.ask(asked)  # so short a deadline may be missed on a busy machine
            return found.task["id"] if isinstance(found, PlanAnswer) else None

        plan_id = await until(begun, seconds=30, what="it has begun")
        await Late.is_called.wait()
        fresh_nats.kill()
        put_off.clear()
        Late.may_begin.set()
        await until(lambda: len(put_off) >= 3, what="it was told again and again that the store is away")
        fresh_nats.start()

        async def task() -> dict[str, Any] | None:
            with contextlib.suppress(nats.errors.Error):
                found = await ada.ask(GetPlan(plan_id))
                if isinstance(found, PlanAnswer) and state_of(found.task) == state:
                    return found.task
            return None

        found = await until(task, seconds=30, what=f"it is {state}")
    assert texts_of(found).count("word 0") == (text == "say 2")
    assert [one.plan_id for one in Scripted.executed].count(plan_id) == 1


class Noted(Scripted):
    """Tells when an execution has ended, in whatever way."""

    ended: ClassVar[list[bool]]

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        try:
            await super().execute(context, queue)
        finally:
            self.ended.append(context.is_again)


def noted(_: float) -> Noted:
    """For `A2A_PLAN_EXECUTOR`."""
    return Noted()


async def test_of_two_executions_in_one_process_the_earlier_ends_when_the_later_begins(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unheard(_: work.Turn) -> None:
        """As while NATS is away: the lease runs out, and the turn is given again."""

    Noted.ended = []
    monkeypatch.setattr(work.Turn, "in_progress", unheard)
    service = planning(fresh_nats.url, plan_executor=f"{__name__}:noted", plan_lease_s=2)
    async with service, looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        task = await ada.ended((await ada.start("hang say 1")).task["id"])
        await until(lambda: len(Noted.ended) >= 2, what="both have ended")
    assert state_of(task) == "COMPLETED"
    assert set(Noted.ended) == {False, True}


@pytest.mark.parametrize("manner", ["loudly", "silently"])
async def test_an_executor_that_will_not_be_cancelled_ends_all_the_same(nats_server: str, manner: str) -> None:
    executor = f"{__name__}:stubborn"
    async with planning(nats_server, plan_executor=executor, plan_cancel_s=0.2), looking_at(nats_server) as client:
        ada = Asker(client, fresh("ada"))
        plan_id = (await ada.start(f"hang {manner}")).task["id"]
        await until(lambda: any(one.plan_id == plan_id for one in Scripted.executed), what="it executes")
        assert state_of((await ada.plan(CancelPlan(plan_id))).task) == "CANCELED"
        await until(lambda: plan_id in Stubborn.ended, what="it has ended")


async def test_turns_are_taken_again_where_their_consumer_was_deleted(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url), looking_at(fresh_nats.url) as client:
        await client.jetstream().delete_consumer("PLAN_WORK", work.CONSUMER)
        ada = Asker(client, fresh("ada"))
        assert state_of(await ada.ended((await ada.start("say 1")).task["id"])) == "COMPLETED"


async def test_a_turn_of_which_its_plan_never_hears_is_dropped(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "UNHEARD_SECONDS", 0.2)
    async with planning(fresh_nats.url), looking_at(fresh_nats.url) as client:
        await work.note(client, "ada", "never_begun", "m1")

        async def left() -> dict[str, Any]:
            found = await jetstream.request(client, f"CONSUMER.INFO.PLAN_WORK.{work.CONSUMER}")
            return {name: found[name] for name in ("num_pending", "num_ack_pending")}

        async def nothing_is_left() -> bool:
            return await left() == {"num_pending": 0, "num_ack_pending": 0}

        await until(nothing_is_left, what="it is dropped")


async def test_a_snapshot_that_is_none_is_passed_over(fresh_nats: EmbeddedNats) -> None:
    async with looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        async with planning(fresh_nats.url):
            task = await ada.ended((await ada.start("say 2")).task["id"])
        await client.jetstream().publish(f"$KV.PLAN_SNAPSHOTS.{ada.sub}.{task['id']}", b"{")
        async with planning(fresh_nats.url):  # a process that has it not in mind
            assert (await ada.plan(GetPlan(task["id"]))).task == task


async def test_more_requests_at_once_than_are_taken_in_hand_are_told_to_come_again(
    nats_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_MOST_IN_HAND", 2)
    async with planning(nats_server), looking_at(nats_server) as client:
        ada = Asker(client, fresh("ada"))
        plan_id = (await ada.start("ask")).task["id"]
        answers = await asyncio.gather(*(ada.ask(GetPlan(plan_id)) for _ in range(50)))
        told = [one.error for one in answers if isinstance(one, Refusal)]
        assert {(one.code, one.retryable, one.retry_after_ms) for one in told} == {("rate_limited", True, 1000)}
        assert any(isinstance(one, PlanAnswer) for one in answers)


async def test_an_answer_larger_than_nats_takes_is_refused_by_name(make_nats: Callable[..., EmbeddedNats]) -> None:
    small = make_nats(server_options="max_payload: 65536").start()
    async with planning(small.url), looking_at(small.url) as client:
        ada = Asker(client, fresh("ada"))
        long = " " * 40_000
        plan_id = (await ada.start(f"ask{long}")).task["id"]

        async def asks() -> bool:
            return state_of((await ada.plan(GetPlan(plan_id, history_length=0))).task) == "INPUT_REQUIRED"

        await until(asks, what="it asks")
        assert await ada.refused(StartPlan(message(f"say 0{long}", taskId=plan_id))) == "message_too_large"
        assert await ada.refused(GetPlan(plan_id)) == "message_too_large"
        assert (await ada.plan(GetPlan(plan_id, history_length=0))).task["id"] == plan_id


async def test_while_nats_is_away_everything_is_refused_as_worth_a_retry_and_works_again_afterwards(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (queue, store):
        monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.1)
    ada = Principal("ada", "buyer", 1e12)
    asked = StartPlan(message("say 1"))
    async with publishing_plans(fresh_nats.url) as site:
        plans = store.Plans(site.ledger, site.streams)
        begun = await plans.start(ada, asked)
        fresh_nats.kill()
        await until(site.streams.nats_failing, what="it is noticed")
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: site.queue.subscribe(begun.task["id"], owner="ada"),
            lambda: plans.list(ada, ListPlans()),
        ]
        for attempt in attempts:
            with pytest.raises(Refused) as refused:
                await attempt()
            assert refused.value.problem.may_retry
        fresh_nats.start()

        async def told() -> bool:
            with contextlib.suppress(Refused):
                return [one["id"] for one in (await plans.list(ada, ListPlans())).tasks] == [begun.task["id"]]
            return False

        await until(told, what="it is answered again")
        assert (await plans.start(ada, asked)).task == begun.task
