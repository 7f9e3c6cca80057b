"""Plans as they are asked for over NATS: who may, what is told, once for each message, as of which cursor."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client

from contracts.cursor import Cursor
from contracts.planrequests import CancelPlan, GetPlan, ListPlans, PlanAnswer, Refusal, StartPlan
from tests.harness.events import fresh
from tests.harness.plans import Asker, message, planning, state_of, texts_of
from tests.harness.streams import all_of, looking_at
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(nats_server: str) -> AsyncIterator[Client]:
    """One service for all of them, at whose NATS this is."""
    async with planning(nats_server), looking_at(nats_server) as client:
        yield client


@pytest.fixture
def ada(client: Client) -> Asker:
    return Asker(client, fresh("ada"))


async def test_a_plan_is_executed_and_its_task_told_with_artifacts_and_history(ada: Asker) -> None:
    started = await ada.start("say 2 make 3")
    assert state_of(started.task) == "SUBMITTED"
    assert texts_of(started.task) == ["say 2 make 3"]
    task = await ada.ended(started.task["id"])
    assert state_of(task) == "COMPLETED"
    assert texts_of(task) == ["say 2 make 3", "word 0", "word 1"]
    assert task["status"]["message"]["parts"] == [{"text": "done"}]
    assert [part["text"] for part in task["artifacts"][0]["parts"]] == ["0", "1", "2"]


async def test_a_plans_events_are_a2as_updates_and_the_last_is_marked(ada: Asker, client: Client) -> None:
    started = await ada.start("make 1")
    await ada.ended(started.task["id"])
    stored = [one.document for one in await all_of(client, f"plan.{ada.sub}.{started.task['id']}", "PLANS")]
    assert [one["type"] for one in stored] == ["PLAN_STATUS_UPDATED", "PLAN_ARTIFACT_UPDATED", "PLAN_STATUS_UPDATED"]
    assert [one.get("final") for one in stored] == [None, None, True]
    assert {one["correlationid"] for one in stored} == {started.task["contextId"]}


async def test_the_same_message_begins_one_plan_whoever_answers(ada: Asker, nats_server: str) -> None:
    asked = StartPlan(message("say 1"))
    async with planning(nats_server):
        answers = await asyncio.gather(*(ada.plan(asked) for _ in range(10)))
    assert len({one.task["id"] for one in answers}) == 1
    task = await ada.ended(answers[0].task["id"])
    assert texts_of(task) == ["say 1", "word 0"]
    assert (await ada.plan(asked)).task == task


async def test_a_stranger_is_told_what_is_told_of_no_plan(ada: Asker, client: Client) -> None:
    plan_id = (await ada.start("ask")).task["id"]
    eve, root = Asker(client, fresh("eve")), Asker(client, fresh("root"), "admin")
    for request in (GetPlan(plan_id), CancelPlan(plan_id), StartPlan(message("x", taskId=plan_id))):
        assert await eve.refused(request) == "not_found"
    assert await eve.refused(GetPlan("no.id")) == "not_found"
    assert (await eve.list()).tasks == []
    assert (await root.plan(GetPlan(plan_id))).task["id"] == plan_id
    assert state_of((await root.plan(CancelPlan(plan_id))).task) == "CANCELED"


@pytest.mark.parametrize("role", ["buyer", "node", "service", "admin"])
async def test_every_role_may_begin_a_plan_and_owns_it(client: Client, role: str) -> None:
    who = Asker(client, fresh("who"), role)
    started = await who.start("say 1")
    assert state_of(await who.ended(started.task["id"])) == "COMPLETED"


async def test_an_answer_holds_at_its_cursor_and_any_earlier_one_can_be_asked_for(ada: Asker, client: Client) -> None:
    started = await ada.start("say 3")
    await ada.ended(started.task["id"])
    stored = await all_of(client, f"plan.{ada.sub}.{started.task['id']}", "PLANS")
    epoch = Cursor.parse(started.cursor).epoch
    for number, one in enumerate(stored):
        cursor = str(Cursor("PLANS", epoch, one.sequence))
        then = await ada.plan(GetPlan(started.task["id"], cursor=cursor))
        assert (then.cursor, then.gap) == (cursor, None)
        assert len(texts_of(then.task)) == max(1, number)
    before = str(Cursor("PLANS", epoch, stored[0].sequence - 1))
    begun = await ada.plan(GetPlan(started.task["id"], cursor=before))
    assert (begun.cursor, state_of(begun.task)) == (str(Cursor("PLANS", epoch, stored[0].sequence)), "SUBMITTED")


async def test_from_the_streams_very_beginning_a_plan_is_told_as_it_began(ada: Asker) -> None:
    started = await ada.start("say 1")
    await ada.ended(started.task["id"])
    beginning = str(Cursor("PLANS", Cursor.parse(started.cursor).epoch, 0))
    found = await ada.plan(GetPlan(started.task["id"], cursor=beginning))
    assert (state_of(found.task), found.cursor, found.gap) == ("SUBMITTED", started.cursor, None)


async def test_json_too_deep_for_clients_begins_no_plan(ada: Asker) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    for asked in (
        StartPlan(message("say 1", metadata=deep)),
        StartPlan(message("say 1", parts=[{"data": deep}])),
        StartPlan(message("say 1"), metadata=deep),
    ):
        assert await ada.refused(asked) == "invalid_message"
    assert (await ada.list()).total_size == 0


async def test_a_cursor_that_cannot_be_had_is_answered_with_the_plan_as_it_is_and_a_gap(ada: Asker) -> None:
    started = await ada.start("say 1")
    task = await ada.ended(started.task["id"])
    now = Cursor.parse((await ada.plan(GetPlan(task["id"]))).cursor)
    for wrong, reason in [
        (Cursor("PLANS", now.epoch, 10**9), "ahead"),
        (Cursor("PLANS", "000000001", 1), "recreated"),
        (Cursor("PLANS", "zzzzzzzzz", 1), "ahead"),
    ]:
        found = await ada.plan(GetPlan(task["id"], cursor=str(wrong)))
        assert found.gap is not None
        assert (found.task, found.gap.reason, found.gap.start) == (task, reason, str(wrong))
        assert found.gap.to == found.cursor
    for bad in ("x", f"MARKET.{now.epoch}.1"):
        assert await ada.refused(GetPlan(task["id"], cursor=bad)) == "invalid_cursor"


async def test_a_plan_that_asks_goes_on_when_it_is_answered_once_for_each_message(ada: Asker) -> None:
    plan_id = (await ada.start("ask")).task["id"]

    async def asks() -> bool:
        return state_of((await ada.plan(GetPlan(plan_id))).task) == "INPUT_REQUIRED"

    await until(asks, what="it asks")
    answer = StartPlan(message("say 1", taskId=plan_id))
    assert state_of((await ada.plan(answer)).task) == "WORKING"
    task = await ada.ended(plan_id)
    assert texts_of(task) == ["ask", "how many?", "say 1", "word 0"]
    assert (await ada.plan(answer)).task == task
    assert await ada.refused(StartPlan(message("more", taskId=plan_id))) == "plan_closed"


async def test_a_plan_at_work_takes_no_message_yet(ada: Asker) -> None:
    plan_id = (await ada.start("pause 30")).task["id"]
    assert await ada.refused(StartPlan(message("x", taskId=plan_id))) == "input_not_expected"
    wrong = StartPlan(message("x", taskId=plan_id, contextId="another"))
    assert await ada.refused(wrong) == "invalid_message"
    await ada.plan(CancelPlan(plan_id))


async def test_a_cancelled_plan_is_over_and_cannot_be_cancelled_again(ada: Asker) -> None:
    plan_id = (await ada.start("pause 30")).task["id"]
    assert state_of((await ada.plan(CancelPlan(plan_id))).task) == "CANCELED"
    assert await ada.refused(CancelPlan(plan_id)) == "not_cancelable"


async def test_a_list_is_ones_own_the_latest_first_by_pages_and_filters(ada: Asker) -> None:
    ids = [(await ada.start("say 1", contextId=f"c{number % 2}")).task["id"] for number in range(5)]
    for one in ids:
        await ada.ended(one)
    waiting = (await ada.start("make 1 ask")).task["id"]

    async def asks() -> bool:
        return state_of((await ada.plan(GetPlan(waiting))).task) == "INPUT_REQUIRED"

    await until(asks, what="it asks")
    whole = await ada.list()
    stamps = [one["status"]["timestamp"] for one in whole.tasks]
    assert {one["id"] for one in whole.tasks} == {*ids, waiting}
    assert stamps == sorted(stamps, reverse=True)
    assert (whole.total_size, whole.next_page_token) == (6, "")
    assert "artifacts" not in whole.tasks[0]
    paged, token = [], ""
    for _ in range(3):
        page = await ada.list(page_size=2, page_token=token)
        paged += page.tasks
        token = page.next_page_token
    assert (paged, token) == (whole.tasks, "")
    assert [one["id"] for one in (await ada.list(status="TASK_STATE_INPUT_REQUIRED")).tasks] == [waiting]
    assert (await ada.list(context_id="c1")).total_size == 2
    assert [one["id"] for one in (await ada.list(status_timestamp_after=stamps[0], include_artifacts=True)).tasks]
    assert all("history" not in one for one in (await ada.list(history_length=0)).tasks)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (StartPlan({}), "invalid_message"),
        (StartPlan({"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "x"}]}), "invalid_message"),
        (StartPlan({"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x" * 200_000}]}), "message_too_large"),
        (ListPlans(status="working"), "invalid_parameter"),
        (ListPlans(page_token="!"), "invalid_parameter"),
        (ListPlans(page_token="eA=="), "invalid_parameter"),
        (ListPlans(status_timestamp_after="today"), "invalid_parameter"),
        (ListPlans(status_timestamp_after="2026-11-20T10:00:00"), "invalid_parameter"),
        (ListPlans(page_size=1000), "invalid_message"),
    ],
)
async def test_what_is_wrong_in_a_request_is_told(ada: Asker, request_: StartPlan | ListPlans, code: str) -> None:
    assert await ada.refused(request_) == code


@pytest.mark.parametrize(
    ("header", "code"), [("", "unauthenticated"), ("Bearer x", "token_invalid"), ("Basic eA==", "unauthenticated")]
)
async def test_the_token_is_judged_here_again(ada: Asker, header: str, code: str) -> None:
    assert await ada.refused(GetPlan("p"), Authorization=header) == code


@pytest.mark.parametrize(
    ("told", "stored"),
    [(TRACE, TRACE), ("00-xx", None), ("\xff", None), (f"{TRACE}-and-more", None), ("a" * 5000, None)],
)
async def test_a_plan_is_of_the_trace_that_its_request_names_and_begins_where_it_names_none(
    ada: Asker, client: Client, told: str, stored: str | None
) -> None:
    begun = await ada.ask(StartPlan(message("say 1")), traceparent=told)
    assert isinstance(begun, PlanAnswer)
    (first, *_) = await all_of(client, f"plan.{ada.sub}.{begun.task['id']}", "PLANS")
    assert first.document.get("traceparent") == stored


async def test_what_is_no_json_is_answered_too(ada: Asker, client: Client) -> None:
    for body in (b"", b"[", b"\xff", b"[" * 100_000):
        answer = await client.request("svc.plans.get", body, timeout=5, headers=bearer("ada", "buyer"))
        assert b'"invalid_message"' in answer.data
    assert isinstance(await ada.start("say 1"), PlanAnswer)


async def test_who_waits_for_no_answer_costs_nobody_his(ada: Asker, client: Client) -> None:
    await client.publish("svc.plans.get", b"{}")
    await ada.start("say 1")


async def test_a_storm_of_requests_is_answered_each_with_its_own_answer(ada: Asker) -> None:
    plan_id = (await ada.start("say 1")).task["id"]
    await ada.ended(plan_id)
    answers = await asyncio.gather(*(ada.ask(GetPlan(plan_id)) for _ in range(600)))
    refused = [one for one in answers if isinstance(one, Refusal)]
    assert {one.error.code for one in refused} <= {"rate_limited"}
    assert {one.task["id"] for one in answers if isinstance(one, PlanAnswer)} == {plan_id}
