"""The stand-in for the plans service is as strict as the service: what somebody has seen is in every answer."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.harness.a2acalls import A2aCaller
from tests.harness.events import fresh
from tests.harness.gateway import Gateway
from tests.harness.planner import Planner, status
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Held:
    """A publisher whose events are in the stream, and who is not told so before it is let go."""

    def __init__(self, planner: Planner) -> None:
        self._publish = planner.market.publish
        self.stored = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def publish(self, document: Mapping[str, Any], *, seconds: float = 10) -> int:
        sequence = await self._publish(document, seconds=seconds)
        self.stored.set()
        await self.may_go_on.wait()
        return sequence


@pytest.mark.parametrize("method", ["GetTask", "ListTasks", "CancelTask"])
async def test_who_asks_while_an_event_is_stored_is_answered_with_it(
    gateway: Gateway, planner: Planner, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    owner = fresh("buyer")
    plan, caller = await planner.begin(owner), A2aCaller(gateway, owner)
    held = Held(planner)
    monkeypatch.setattr(planner.market, "publish", held.publish)
    publishing = asyncio.create_task(planner.publish(status(plan, owner, "COMPLETED")))
    await held.stored.wait()
    before = len(planner.traces)
    asking = asyncio.create_task(caller.rpc(method, {} if method == "ListTasks" else {"id": plan}))
    await until(lambda: len(planner.traces) > before, what="it is asked")
    held.may_go_on.set()
    told = (await asking).json()
    await publishing
    if method == "CancelTask":
        assert told["error"]["code"] == -32002
    else:
        (task,) = told["result"]["tasks"] if method == "ListTasks" else [told["result"]]
        assert task["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_the_same_message_twice_at_once_begins_one_plan(gateway: Gateway, planner: Planner) -> None:
    caller = A2aCaller(gateway, fresh("buyer"))
    message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "go"}]}
    asked = {"message": message, "configuration": {"returnImmediately": True}}
    answers = await asyncio.gather(*(caller.rpc("SendMessage", asked) for _ in range(5)))
    (plan,) = {answer.json()["result"]["task"]["id"] for answer in answers}
    assert len(planner.stored[plan]) == 1
