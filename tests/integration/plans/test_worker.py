"""Plans as they are executed: by one replica, also when replicas die or leave; cancelled; and what outlives them."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from typing import ClassVar

import nats.errors
import pytest
from nats.aio.client import Client

from contracts.cursor import Cursor
from contracts.planrequests import CancelPlan, GetPlan, PlanAnswer, StartPlan
from services.chassis import jetstream
from services.chassis.deadletters import letters
from services.local.embedded import EmbeddedNats
from services.plans.executor import PlanContext
from services.plans.queue import A2aEventQueue
from tests.harness.agents import Scripted
from tests.harness.events import fresh
from tests.harness.plans import Asker, message, planning, process, state_of, texts_of
from tests.harness.streams import all_of, looking_at
from tests.harness.waiting import until


@pytest.fixture
async def client(fresh_nats: EmbeddedNats) -> AsyncIterator[Client]:
    async with looking_at(fresh_nats.url) as client:
        yield client


@pytest.fixture
def ada(client: Client) -> Asker:
    return Asker(client, fresh("ada"))


def executions_of(plan_id: str) -> int:
    return sum(context.plan_id == plan_id for context in Scripted.executed)


async def executing(plan_id: str) -> None:
    await until(lambda: executions_of(plan_id), what="it executes")


async def cancelled_by_whoever_lives(client: Client, ada: Asker, plan_id: str) -> None:
    """NATS gives a replica that is frozen, or has just died, its share of what is asked: ask until one answers."""
    hasty = Asker(client, ada.sub, patience=1)

    async def is_answered() -> bool:
        with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
            await hasty.ask(CancelPlan(plan_id))
            return True
        return False

    await until(is_answered, seconds=30, what="the replica that lives is asked")


async def kinds_of(client: Client, ada: Asker, plan_id: str) -> list[str]:
    return [one.document["type"] for one in await all_of(client, f"plan.{ada.sub}.{plan_id}", "PLANS")]


@pytest.mark.parametrize(
    ("text", "code"),
    [("say 1 fail", "executor_failed"), ("say 1 quit", "executor_failed"), ("say 1 stop", "executor_ended")],
)
async def test_an_executor_that_stops_in_the_middle_ends_its_plan_with_an_error_and_a_dead_letter(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker, text: str, code: str
) -> None:
    async with planning(fresh_nats.url):
        plan_id = (await ada.start(text)).task["id"]
        assert state_of(await ada.ended(plan_id)) == "FAILED"
        stored = [one.document for one in await all_of(client, f"plan.{ada.sub}.{plan_id}", "PLANS")]
        assert [one["type"] for one in stored[-2:]] == ["PLAN_ERROR", "PLAN_STATUS_UPDATED"]
        assert stored[-2]["data"]["code"] == code
        assert [one.get("final") for one in stored[-2:]] == [None, True]

        async def buried() -> list[str]:
            return [one.reason async for one in letters(client, "plans")]

        (reason,) = await until(buried, what="it is among the dead letters")
        assert reason.startswith(code)


async def test_a_problem_does_not_end_a_plan(fresh_nats: EmbeddedNats, client: Client, ada: Asker) -> None:
    async with planning(fresh_nats.url):
        task = await ada.ended((await ada.start("problem say 1")).task["id"])
        assert state_of(task) == "COMPLETED"
        assert "Something is slow." in texts_of(task)
        assert "PLAN_ERROR" in await kinds_of(client, ada, task["id"])


async def test_many_plans_over_two_replicas_are_each_executed_once(fresh_nats: EmbeddedNats, ada: Asker) -> None:
    async with planning(fresh_nats.url), planning(fresh_nats.url):
        started = await asyncio.gather(*(ada.start("say 1 make 1") for _ in range(60)))
        ids = [one.task["id"] for one in started]
        tasks = [await ada.ended(one) for one in ids]
    assert {state_of(task) for task in tasks} == {"COMPLETED"}
    assert Counter(one.plan_id for one in Scripted.executed if one.owner == ada.sub) == dict.fromkeys(ids, 1)


class Counted(Scripted):
    """Knows how many of its plans execute, and how many did at once."""

    running: ClassVar[int] = 0
    most: ClassVar[int] = 0

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        Counted.running += 1
        Counted.most = max(Counted.most, Counted.running)
        try:
            await super().execute(context, queue)
        finally:
            Counted.running -= 1


def counted(_: float) -> Counted:
    """For `A2A_PLAN_EXECUTOR`."""
    return Counted()


async def test_no_more_plans_execute_at_once_than_a_replica_may(fresh_nats: EmbeddedNats, ada: Asker) -> None:
    async with planning(fresh_nats.url, plans_running=2, plan_executor=f"{__name__}:counted"):
        started = await asyncio.gather(*(ada.start("pause 0.3 say 1") for _ in range(6)))
        assert {state_of(await ada.ended(one.task["id"])) for one in started} == {"COMPLETED"}
    assert Counted.most == 2


async def test_a_cancel_reaches_the_executor_in_whichever_replica(fresh_nats: EmbeddedNats, ada: Asker) -> None:
    async with planning(fresh_nats.url), planning(fresh_nats.url):
        ids = [(await ada.start("say 1 pause 60 say 1")).task["id"] for _ in range(4)]
        for one in ids:
            await executing(one)
            assert state_of((await ada.plan(CancelPlan(one))).task) == "CANCELED"
        await until(lambda: set(ids) <= set(Scripted.cancelled), what="their executors are told")
        for one in ids:
            assert state_of((await ada.plan(GetPlan(one))).task) == "CANCELED"


async def test_of_a_cancel_and_an_end_at_once_one_wins_and_nothing_follows_it(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    async with planning(fresh_nats.url):
        for _ in range(10):
            plan_id = (await ada.start("say 5")).task["id"]
            await executing(plan_id)
            await ada.ask(CancelPlan(plan_id))
            await ada.ended(plan_id)
            stored = [one.document for one in await all_of(client, f"plan.{ada.sub}.{plan_id}", "PLANS")]
            assert [bool(one.get("final")) for one in stored] == [False] * (len(stored) - 1) + [True]


async def test_a_replica_that_leaves_gives_its_plans_back_and_none_counts_as_lost(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    async with planning(fresh_nats.url, plan_lease_s=60):
        plan_id = (await ada.start("say 1 hang say 1")).task["id"]
        await executing(plan_id)
    async with planning(fresh_nats.url, plan_lease_s=60):
        task = await ada.ended(plan_id)
    assert state_of(task) == "COMPLETED"
    assert [one.is_again for one in Scripted.executed if one.plan_id == plan_id] == [False, True]
    told = [
        one.document["data"].get("metadata", {}) for one in await all_of(client, f"plan.{ada.sub}.{plan_id}", "PLANS")
    ]
    assert sum("released" in one for one in told) == 1


async def test_a_plan_whose_replica_is_killed_is_executed_again_elsewhere_with_what_was_stored(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    # A lease that a busy machine keeps: a replica that lives is not to lose its plan.
    async with planning(fresh_nats.url, plans_running=1, plan_lease_s=3):
        blocking = (await ada.start("pause 60")).task["id"]
        await executing(blocking)
        replica = await process(fresh_nats.url, A2A_PLAN_LEASE_S="3")
        plan_id = (await ada.start("say 1 hang say 1")).task["id"]

        async def said() -> bool:
            return "PLAN_STATUS_UPDATED" in (await kinds_of(client, ada, plan_id))[1:]

        await until(said, seconds=20, what="the other replica is at it")
        replica.kill()
        await replica.wait()
        await cancelled_by_whoever_lives(client, ada, blocking)
        task = await ada.ended(plan_id, seconds=40)
    assert state_of(task) == "COMPLETED"
    (again,) = [one for one in Scripted.executed if one.plan_id == plan_id]
    assert again.is_again
    assert texts_of(again.task)[0] == "say 1 hang say 1"
    assert texts_of(task).count("word 0") == 3


@pytest.mark.endurance
@pytest.mark.timeout(120)
async def test_a_plan_that_kills_whoever_executes_it_fails_after_four_executions(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    async with planning(fresh_nats.url, plans_running=1, plan_lease_s=1):
        blocking = (await ada.start("pause 600")).task["id"]
        await executing(blocking)
        plan_id = (await ada.start("die")).task["id"]
        for _ in range(4):
            assert await asyncio.wait_for((await process(fresh_nats.url)).wait(), 30) == -9
        await cancelled_by_whoever_lives(client, ada, blocking)
        assert state_of(await ada.ended(plan_id, seconds=30)) == "FAILED"
        stored = [one.document for one in await all_of(client, f"plan.{ada.sub}.{plan_id}", "PLANS")]
        assert stored[-2]["data"]["code"] == "executor_lost"
        assert executions_of(plan_id) == 0
        assert [one.reason async for one in letters(client, "plans")]


async def test_an_ended_plan_whose_events_aged_out_is_still_told_and_not_born_again(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    asked = StartPlan(message("say 2 make 2"))
    async with planning(fresh_nats.url):
        task = await ada.ended((await ada.plan(asked)).task["id"])
        now = Cursor.parse((await ada.plan(GetPlan(task["id"]))).cursor)
        await client.jetstream().purge_stream("PLANS")
    async with planning(fresh_nats.url):  # a process that has seen nothing of it
        assert (await ada.plan(GetPlan(task["id"]))).task == task
        assert (await ada.plan(asked)).task == task
        assert [one["id"] for one in (await ada.list()).tasks] == [task["id"]]
        root = Asker(client, "root", "admin")
        assert (await root.plan(GetPlan(task["id"]))).task == task
        assert await ada.refused(CancelPlan(task["id"])) == "not_cancelable"
        early = str(Cursor("PLANS", now.epoch, now.sequence - 2))
        found = await ada.plan(GetPlan(task["id"], cursor=early))
        assert found.gap is not None
        assert (found.task, found.gap.reason, found.gap.to) == (task, "expired", found.cursor)
        assert await kinds_of(client, ada, task["id"]) == []


async def test_a_running_plan_whose_first_events_aged_out_goes_on_from_its_snapshot(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    async with planning(fresh_nats.url, plan_sweep_s=1) as url:
        plan_id = (await ada.start("say 3 make 2 ask")).task["id"]

        async def is_kept() -> bool:
            task = (await ada.plan(GetPlan(plan_id))).task
            kept = await all_of(client, f"$KV.PLAN_SNAPSHOTS.{ada.sub}.{plan_id}", "KV_PLAN_SNAPSHOTS")
            return state_of(task) == "INPUT_REQUIRED" and bool(kept)

        await until(is_kept, what=f"{url} has written its snapshot")
        before = (await ada.plan(GetPlan(plan_id))).task
    await client.jetstream().purge_stream("PLANS", keep=1)
    async with planning(fresh_nats.url):
        assert (await ada.plan(GetPlan(plan_id))).task == before
        await ada.plan(StartPlan(message("say 1", taskId=plan_id)))
        task = await ada.ended(plan_id)
    assert [part["text"] for part in task["artifacts"][0]["parts"]] == ["0", "1"]
    assert texts_of(task)[-3:] == ["how many?", "say 1", "word 0"]


async def test_a_plan_of_which_nothing_is_heard_fails(fresh_nats: EmbeddedNats, client: Client, ada: Asker) -> None:
    async with planning(fresh_nats.url, plan_sweep_s=1, plan_idle_s=1):
        plan_id = (await ada.start("ask")).task["id"]
        assert state_of(await ada.ended(plan_id)) == "FAILED"
        stored = [one.document for one in await all_of(client, f"plan.{ada.sub}.{plan_id}", "PLANS")]
        assert stored[-2]["data"]["code"] == "expired"


async def test_the_example_agent_plans_a_purchase_and_asks_for_what_it_lacks(
    fresh_nats: EmbeddedNats, ada: Asker
) -> None:
    async with planning(fresh_nats.url, plan_executor="services.plans.example:executor", plan_step_s=0):
        task = await ada.ended((await ada.start("a study, at most 1500 EUR")).task["id"])
        assert [one["artifactId"] for one in task["artifacts"]] == ["offers", "plan"]
        assert len(task["artifacts"][0]["parts"]) == 3
        plan_id = (await ada.start("a study")).task["id"]

        async def asks() -> bool:
            return state_of((await ada.plan(GetPlan(plan_id))).task) == "INPUT_REQUIRED"

        await until(asks, what="it asks")
        await ada.plan(StartPlan(message("1500 EUR", taskId=plan_id)))
        assert state_of(await ada.ended(plan_id)) == "COMPLETED"


@pytest.mark.endurance
async def test_a_replica_that_was_only_frozen_is_not_heard_and_takes_no_turn_away(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    async with planning(fresh_nats.url, plans_running=1, plan_lease_s=3):
        blocking = (await ada.start("pause 60")).task["id"]
        await executing(blocking)
        replica = await process(fresh_nats.url, A2A_PLAN_LEASE_S="3")
        try:
            plan_id = (await ada.start("pause 5 say 1")).task["id"]

            async def taken() -> bool:
                info = await jetstream.request(client, "CONSUMER.INFO.PLAN_WORK.plans")
                return int(info["num_ack_pending"]) == 2

            await until(taken, seconds=20, what="the other replica has it")
            replica.send_signal(signal.SIGSTOP)
            await cancelled_by_whoever_lives(client, ada, blocking)
            await executing(plan_id)
            replica.send_signal(signal.SIGCONT)
            task = await ada.ended(plan_id, seconds=30)
        finally:
            replica.kill()
            await replica.wait()
    assert state_of(task) == "COMPLETED"
    assert texts_of(task).count("word 0") == 1


async def test_an_ended_plan_is_told_in_the_streams_next_life_too(
    fresh_nats: EmbeddedNats, client: Client, ada: Asker
) -> None:
    asked = StartPlan(message("say 1 make 1"))
    async with planning(fresh_nats.url):
        task = await ada.ended((await ada.plan(asked)).task["id"])
        waiting = (await ada.start("ask")).task["id"]
    for name in ("PLANS_REPLAY", "PLANS"):
        await client.jetstream().delete_stream(name)
    async with planning(fresh_nats.url):
        assert (await ada.plan(GetPlan(task["id"]))).task == task
        assert (await ada.plan(asked)).task == task
        assert await ada.refused(GetPlan(waiting)) == "not_found"


async def test_a_plan_goes_on_when_nats_was_away(fresh_nats: EmbeddedNats, ada: Asker) -> None:
    async with planning(fresh_nats.url, plan_lease_s=30):
        plan_id = (await ada.start("say 1 pause 0.5 say 2")).task["id"]
        await executing(plan_id)
        fresh_nats.kill()
        await asyncio.sleep(1)
        fresh_nats.start()

        async def answered() -> bool:
            with contextlib.suppress(nats.errors.Error):
                return isinstance(await ada.ask(GetPlan(plan_id)), PlanAnswer)
            return False

        await until(answered, seconds=30, what="it answers again")
        task = await ada.ended(plan_id, seconds=30)
    assert state_of(task) == "COMPLETED"
    assert texts_of(task).count("word 1") == 1
