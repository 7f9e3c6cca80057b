"""The SDK's client, a gateway and the plans service itself: begun, followed, cut, resumed, asked, cancelled."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from a2a.client.errors import A2AClientError
from a2a.types.a2a_pb2 import CancelTaskRequest, GetTaskRequest, ListTasksRequest, TaskState
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError, UnsupportedOperationError

from contracts.cursor import Cursor
from services.local.embedded import EmbeddedNats
from tests.harness.a2aclient import BINDINGS, Told, agent_at
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.line import Line
from tests.harness.plans import planning

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway beside a plans service, on a nats-server of their own: others answer for plans on the shared one."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    server.start()
    try:
        async with planning(server.url), running_gateway(server.url, task_wait_s=20) as gateway:
            yield gateway
    finally:
        server.stop()


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_plan_is_begun_and_followed_to_its_end(served: Gateway, binding: str) -> None:
    async with agent_at(served.url, fresh("buyer"), binding=binding) as agent:
        task, *told = [one async for one in agent.send("say 2 make 2 problem")]
        assert task.kind == "task"
        assert [one.text for one in told if one.text][-1] == "done"
        texts = [(one.kind, one.text) for one in told if one.text]
        assert [text for kind, text in texts if kind == "artifact_update"] == ["0", "1"]
        assert [one.metadata["error"]["code"] for one in told if "error" in one.metadata] == ["hiccup"]
        assert told[-1].state == "COMPLETED"
        whole = await agent.client.get_task(GetTaskRequest(id=task.payload.id), context=agent.context())
        assert [part.text for part in whole.artifacts[0].parts] == ["0", "1"]
        at, last = Cursor.parse(whole.metadata["cursor"]), Cursor.parse(told[-1].cursor)
        assert (at.epoch, at.sequence >= last.sequence) == (last.epoch, True)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_follower_that_is_cut_again_and_again_has_the_plan_as_it_was(served: Gateway, binding: str) -> None:
    owner = fresh("buyer")
    line = Line(int(served.url.rpartition(":")[2]))
    script = " ".join(f"make {count} pause 0.1" for count in (5, 5, 5, 5))
    told: list[Told] = []
    async with agent_at(served.url, owner, binding=binding) as agent, line.open():
        begun = await anext(agent.send(script))
        plan = begun.payload.id
        address = line.url.replace("nats", "http")
        connections = 0
        while not told or told[-1].state != "COMPLETED":
            connections += 1
            async with agent_at(address, owner, binding=binding) as cut:
                with contextlib.suppress(A2AClientError):
                    async for one in cut.follow(plan, told[-1].cursor if told else begun.cursor):
                        if one.kind == "task":
                            continue
                        told.append(one)
                        if len(told) % 7 == 0 and one.state != "COMPLETED":
                            line.cut()
        live = [(one.kind, one.text, one.state) for one in told]
        cursors = [int(one.cursor.rpartition(".")[2]) for one in told]
        again = [one async for one in agent.follow(plan, begun.cursor) if one.kind != "task"]
    assert live == [(one.kind, one.text, one.state) for one in again]
    assert cursors == sorted(set(cursors))
    made = [text for kind, text, _ in live if kind == "artifact_update"]
    assert made == [str(number) for _ in range(4) for number in range(5)]
    assert connections >= 3


async def test_a_plan_that_asks_is_answered_in_the_same_task(served: Gateway) -> None:
    async with agent_at(served.url, fresh("buyer"), streaming=False) as agent:
        asked = await anext(agent.send("ask"))
        assert (asked.state, asked.text) == ("INPUT_REQUIRED", "how many?")
        done = await anext(agent.send("say 1", task_id=asked.payload.id))
        assert (done.payload.id, done.state) == (asked.payload.id, "COMPLETED")


async def test_a_plan_is_cancelled_before_its_followers_eyes(served: Gateway) -> None:
    async with agent_at(served.url, fresh("buyer")) as agent:
        updates = agent.send("say 1 pause 30")
        plan = (await anext(updates)).payload.id
        ended = await agent.client.cancel_task(CancelTaskRequest(id=plan), context=agent.context())
        assert ended.status.state == TaskState.TASK_STATE_CANCELED
        assert [one.state async for one in updates][-1] == "CANCELED"
        with pytest.raises(UnsupportedOperationError):
            await anext(agent.follow(plan))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_that_has_ended_takes_no_further_message(served: Gateway, binding: str) -> None:
    async with agent_at(served.url, fresh("buyer"), binding=binding) as agent:
        begun, *_ = [one async for one in agent.send("say 1")]
        with pytest.raises(UnsupportedOperationError):
            await anext(agent.send("say 2", task_id=begun.payload.id))


async def test_tasks_are_listed_for_their_owner_alone(served: Gateway) -> None:
    owner = fresh("buyer")
    async with agent_at(served.url, owner) as agent, agent_at(served.url, fresh("buyer")) as stranger:
        begun, *_ = [one async for one in agent.send("make 1")]
        plan = begun.payload.id
        page = await agent.client.list_tasks(ListTasksRequest(), context=agent.context())
        assert [(one.id, len(one.artifacts)) for one in page.tasks] == [(plan, 0)]
        asked = ListTasksRequest(include_artifacts=True, status=TaskState.TASK_STATE_COMPLETED)
        page = await agent.client.list_tasks(asked, context=agent.context())
        assert [len(one.artifacts) for one in page.tasks] == [1]
        assert not (await stranger.client.list_tasks(ListTasksRequest(), context=stranger.context())).tasks
        with pytest.raises(TaskNotFoundError):
            await stranger.client.get_task(GetTaskRequest(id=plan), context=stranger.context())
        with pytest.raises(TaskNotFoundError):
            await anext(stranger.follow(plan))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_message_that_is_none_is_an_invalid_parameter(served: Gateway, binding: str) -> None:
    async with agent_at(served.url, fresh("buyer"), binding=binding) as agent:
        with pytest.raises(InvalidParamsError):
            await anext(agent.send("x", context_id="x" * 1000))
