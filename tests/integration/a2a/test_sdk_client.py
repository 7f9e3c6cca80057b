"""The unmodified a2a-sdk client follows plans, in every binding, and goes on after its connection was cut."""

import asyncio
import contextlib
import itertools
from typing import Any

import pytest
from a2a.client.errors import A2AClientError
from a2a.types.a2a_pb2 import CancelTaskRequest, GetTaskRequest, ListTasksRequest, TaskState
from a2a.utils.errors import (
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from tests.harness.a2aclient import BINDINGS, Told, agent_at
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.line import Line
from tests.harness.planner import Planner, artifact, problem, status
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def numbers(told: list[Told]) -> list[int]:
    return [int(one.cursor.rpartition(".")[2]) for one in told]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_plan_is_followed_from_its_task_to_its_end(gateway: Gateway, planner: Planner, binding: str) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner, "buy a chair")
    async with agent_at(gateway.url, owner, binding=binding) as agent:
        updates = agent.follow(plan)
        first = await anext(updates)
        assert (first.kind, first.state, first.payload.history[0].parts[0].text) == ("task", "SUBMITTED", "buy a chair")
        cursors = await planner.publish(
            status(plan, owner, "WORKING", "looking around"),
            artifact(plan, owner, "oak, 80 EUR"),
            problem(plan, owner, "node_away", "one node does not answer"),
            artifact(plan, owner, "pine, 60 EUR"),
            status(plan, owner, "COMPLETED", "bought"),
        )
        told = [one async for one in updates]
    assert [one.cursor for one in told] == cursors
    assert [(one.kind, one.state, one.text) for one in told] == [
        ("status_update", "WORKING", "looking around"),
        ("artifact_update", "", "oak, 80 EUR"),
        ("status_update", "WORKING", "one node does not answer"),
        ("artifact_update", "", "pine, 60 EUR"),
        ("status_update", "COMPLETED", "bought"),
    ]
    assert told[2].metadata["error"] == {"code": "node_away", "message": "one node does not answer", "retryable": True}
    assert told[1].payload.append
    await _left(gateway)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_after_a_cut_it_goes_on_from_its_cursor_with_nothing_missing_or_double(
    gateway: Gateway, planner: Planner, binding: str
) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    events = [artifact(plan, owner, f"step {number}") for number in range(40)]
    line = Line(int(gateway.url.rpartition(":")[2]))
    async with line.open():
        address = line.url.replace("nats", "http")
        told: list[Told] = []
        connections = 0

        async def follow() -> None:
            nonlocal connections
            while not told or told[-1].state != "COMPLETED":
                cursor = told[-1].cursor if told else None
                connections += 1
                async with agent_at(address, owner, binding=binding) as agent:
                    # A cut may look like an end: what tells them apart is the state.
                    with contextlib.suppress(A2AClientError):
                        async for one in agent.follow(plan, cursor):
                            if one.kind == "task" and told:
                                # The task as the client knows it: nothing of what it has yet to be told.
                                steps = [part.text for made in one.payload.artifacts for part in made.parts]
                                assert steps == [seen.text for seen in told[1:]]
                                continue
                            told.append(one)

        following = asyncio.create_task(follow())
        await until(lambda: told, what="the client has the task")
        for number, event in enumerate(events, 1):
            await planner.publish(event)
            if number % 10 == 0:
                await until(lambda: len(told) >= number - 3, what="the client has most of it")  # noqa: B023
                line.cut()
        await planner.publish(status(plan, owner, "COMPLETED"))
        await asyncio.wait_for(following, 30)
    assert [one.text for one in told[1:-1]] == [f"step {number}" for number in range(40)]
    assert numbers(told) == sorted(set(numbers(told)))
    assert connections >= 4
    await _left(gateway)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_an_ended_plan_still_owes_is_delivered_and_then_nothing_is_due(
    gateway: Gateway, planner: Planner, binding: str
) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    seen, *_, last = await planner.publish(
        status(plan, owner, "WORKING"), artifact(plan, owner, "one"), status(plan, owner, "COMPLETED", "done")
    )
    async with agent_at(gateway.url, owner, binding=binding) as agent:
        task, *told = [one async for one in agent.follow(plan, seen)]
        assert (task.state, task.cursor, len(task.payload.artifacts)) == ("WORKING", seen, 0)
        assert [one.text for one in told] == ["one", "done"]
        for cursor in (None, last):
            with pytest.raises(UnsupportedOperationError):
                await anext(agent.follow(plan, cursor))
    await _left(gateway)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_stranger_is_told_what_is_told_of_no_plan(gateway: Gateway, planner: Planner, binding: str) -> None:
    plan = await planner.begin(fresh("buyer"))
    async with agent_at(gateway.url, fresh("buyer"), binding=binding) as agent:
        refusals = []
        for name in (plan, fresh("plan"), "no.id.at.all"):
            for cursor in (None, "PLANS.000000000.0"):
                with pytest.raises(TaskNotFoundError) as refused:
                    await anext(agent.follow(name, cursor))
                refusals.append(str(refused.value))
            with pytest.raises(TaskNotFoundError):
                await agent.client.get_task(GetTaskRequest(id=name), context=agent.context())
            with pytest.raises(TaskNotFoundError):
                await agent.client.cancel_task(CancelTaskRequest(id=name), context=agent.context())
        assert len(set(refusals)) == 1
    await _left(gateway)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_message_begins_a_plan_and_is_followed_to_its_end(
    gateway: Gateway, planner: Planner, binding: str
) -> None:
    owner = fresh("buyer")
    async with agent_at(gateway.url, owner, binding=binding) as agent:
        updates = agent.send("buy a lamp")
        first = await anext(updates)
        assert (first.kind, first.state) == ("task", "SUBMITTED")
        plan = first.payload.id
        await planner.publish(status(plan, owner, "WORKING", "going"), status(plan, owner, "COMPLETED", "lit"))
        assert [one.text async for one in updates] == ["going", "lit"]
    await _left(gateway)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_blocking_message_is_answered_when_the_plan_ends_or_asks(
    gateway: Gateway, planner: Planner, binding: str
) -> None:
    owner = fresh("buyer")
    async with agent_at(gateway.url, owner, binding=binding, streaming=False) as agent:
        asking = asyncio.ensure_future(anext(agent.send("buy a desk")))
        (plan,) = await until(lambda: [one for one, by in planner.owners.items() if by == owner])
        await planner.publish(status(plan, owner, "WORKING"), status(plan, owner, "INPUT_REQUIRED", "oak or pine?"))
        asked = await asking
        assert (asked.kind, asked.state, asked.text) == ("task", "INPUT_REQUIRED", "oak or pine?")
        answering = asyncio.ensure_future(anext(agent.send("oak", task_id=plan)))
        await until(lambda: len(planner.stored[plan]) == 4)
        await planner.publish(status(plan, owner, "COMPLETED", "oak it is"))
        assert (await answering).state == "COMPLETED"
        at_once = await anext(agent.send("buy a rug", wait=False))
        assert at_once.state == "SUBMITTED"
    await _left(gateway)


async def test_a_task_is_read_listed_and_cancelled(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plans = [await planner.begin(owner) for _ in range(2)]
    for binding in BINDINGS:
        async with agent_at(gateway.url, owner, binding=binding) as agent:
            task = await agent.client.get_task(GetTaskRequest(id=plans[0]), context=agent.context())
            assert (task.id, task.status.state) == (plans[0], TaskState.TASK_STATE_SUBMITTED)
            assert task.metadata["cursor"].startswith("PLANS.")
            if "0.3" not in binding:
                page = await agent.client.list_tasks(ListTasksRequest(page_size=10), context=agent.context())
                assert ({one.id for one in page.tasks}, page.total_size) == (set(plans), 2)
    async with agent_at(gateway.url, owner, binding=BINDINGS[1]) as agent:
        ended = await agent.client.cancel_task(CancelTaskRequest(id=plans[0]), context=agent.context())
        assert ended.status.state == TaskState.TASK_STATE_CANCELED
    for binding in BINDINGS:
        async with agent_at(gateway.url, owner, binding=binding) as agent:
            with pytest.raises(TaskNotCancelableError):
                await agent.client.cancel_task(CancelTaskRequest(id=plans[0]), context=agent.context())


@pytest.mark.parametrize("binding", BINDINGS)
async def test_push_notifications_are_refused_as_such(gateway: Gateway, binding: str) -> None:
    from a2a.types.a2a_pb2 import TaskPushNotificationConfig

    async with agent_at(gateway.url, fresh("buyer"), binding=binding) as agent:
        with pytest.raises(PushNotificationNotSupportedError):
            await agent.client.create_task_push_notification_config(
                TaskPushNotificationConfig(task_id="p1", url="https://example.com"), context=agent.context()
            )


async def test_two_gateways_tell_three_clients_the_same_sequence(
    gateway: Gateway, planner: Planner, nats_server: str
) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)

    told: list[list[tuple[str, str, str]]] = [[], [], []]

    async def follow(url: str, binding: str, into: list[tuple[str, str, str]]) -> None:
        async with agent_at(url, owner, binding=binding) as agent:
            async for one in agent.follow(plan):
                into.append((one.cursor, one.kind, one.text))

    async with running_gateway(nats_server) as other:
        following = [
            asyncio.create_task(follow(url, binding, into))
            for url, binding, into in zip(itertools.cycle((gateway.url, other.url)), BINDINGS, told)
        ]
        await until(lambda: all(told), what="each has the task")
        events = [artifact(plan, owner, f"step {number}") for number in range(30)]
        await planner.publish(*events, status(plan, owner, "COMPLETED"))
        await asyncio.gather(*following)
    first, *others = told
    assert others == [first, first]
    assert len(first) == 32


@pytest.mark.parametrize(
    "patience",
    [pytest.param(2.0, id="of two seconds"), pytest.param(None, id="of the SDK's own", marks=pytest.mark.endurance)],
)
async def test_a_quiet_plan_outlasts_its_clients_patience(
    nats_server: str, planner: Planner, patience: float | None
) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    often: Any = {} if patience is None else {"task_idle_s": patience / 4}
    async with running_gateway(nats_server, **often) as gateway, agent_at(gateway.url, owner) as agent:
        updates = agent.follow(plan, patience=patience)
        await anext(updates)
        waiting = asyncio.ensure_future(anext(updates))
        finished, _ = await asyncio.wait([waiting], timeout=1.3 * (patience or 5))
        assert not finished
        await planner.publish(status(plan, owner, "COMPLETED"))
        assert (await waiting).state == "COMPLETED"
        assert [one async for one in updates] == []


async def _left(gateway: Gateway) -> None:
    """Nothing of a client stays in the gateway."""
    replica = gateway.replica
    assert replica is not None
    await until(lambda: not replica.connections and not replica.principals and not replica.polls, seconds=2)
    assert len(replica.streams["PLANS"].fanout) == 0
    assert not replica.streams["PLANS"].readers
