"""Streams: their blocks and cursors, gaps, and why they end before their plan does; nothing of them stays."""

import asyncio
import json
from typing import Any

import pytest

from contracts.errors import ErrorCode, Problem
from services.local.embedded import EmbeddedNats
from tests.harness.a2acalls import A2aCaller, body_of, error_of
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.planner import Planner, artifact, planning, status
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_block_bears_its_cursor_twice_and_the_stream_closes_at_the_end(
    gateway: Gateway, planner: Planner
) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    async with A2aCaller(gateway, owner).follow(plan) as blocks:
        assert blocks.answer.headers["content-type"] == "text/event-stream"
        assert blocks.answer.headers["x-accel-buffering"] == "no"
        first = await blocks.read()
        cursors = await planner.publish(artifact(plan, owner, "one"), status(plan, owner, "FAILED", "no"))
        told = [await _next(blocks) for _ in range(2)]
        assert await blocks.read() == {}
    assert body_of(first)["task"]["metadata"]["cursor"] == first["id"]
    assert [block["id"] for block in told] == cursors
    assert [body_of(block)["artifactUpdate"]["metadata"]["cursor"] for block in told[:1]] == cursors[:1]
    assert body_of(told[1])["statusUpdate"]["status"]["state"] == "TASK_STATE_FAILED"


async def test_a_quiet_stream_gets_comments_alone(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    async with A2aCaller(gateway, owner).follow(plan) as blocks:
        await blocks.read()
        heard = await anext(blocks._pieces)
        assert set(heard.splitlines(keepends=True)) == {b": hb\n"}  # on a busy machine more than one at once


async def test_a_cursor_that_is_none_of_a_plan_is_an_invalid_parameter(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    caller = A2aCaller(gateway, owner)
    for cursor in ("7", "MARKET.000000001.4", "PLANS.x"):
        answer = await caller.rpc("SubscribeToTask", {"id": plan}, **{"Last-Event-ID": cursor})
        assert error_of(answer) == (200, -32602, "INVALID_PARAMS")


async def test_a_gap_is_named_after_the_task_and_the_stream_goes_on(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    (seen, now) = await planner.publish(status(plan, owner, "WORKING"), artifact(plan, owner, "one"))
    planner.gap = {"reason": "expired", "from": seen, "to": now}
    try:
        async with A2aCaller(gateway, owner).follow(plan, now) as blocks:
            task, told = await blocks.read(), await blocks.read()
            await planner.publish(status(plan, owner, "COMPLETED"))
            assert "statusUpdate" in body_of(await _next(blocks))
    finally:
        planner.gap = None
    assert "task" in body_of(task)
    update = body_of(told)["statusUpdate"]
    assert update["metadata"] == {"cursor": now, "gap": {"reason": "expired", "from": seen, "to": now}}
    assert update["status"] == {"state": "TASK_STATE_WORKING"}


async def test_a_gap_that_reaches_to_the_end_is_told_with_the_ended_task(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    (end,) = await planner.publish(status(plan, owner, "COMPLETED"))
    planner.gap = {"reason": "expired", "from": "PLANS.000000001.1", "to": end}
    try:
        async with A2aCaller(gateway, owner).follow(plan, end) as blocks:
            told = [body_of(await blocks.read()) for _ in range(2)]
            assert await blocks.read() == {}
    finally:
        planner.gap = None
    assert [list(one) for one in told] == [["task"], ["statusUpdate"]]


async def test_a_gap_that_opens_under_a_follower_is_named_and_ends_the_stream(fresh_nats: EmbeddedNats) -> None:
    async with running_gateway(fresh_nats.url) as gateway, planning(fresh_nats.url) as planner:
        plan = await planner.begin("b1")
        async with A2aCaller(gateway, "b1").follow(plan) as blocks:
            await blocks.read()
            await planner.market.remake("PLANS")
            gap, why = await _next(blocks), await _next(blocks)
            assert await blocks.read() == {}
        assert body_of(gap)["statusUpdate"]["metadata"]["gap"]["reason"] == "recreated"
        assert why["event"] == "error"
        assert body_of(why)["error"]["status"] == "UNAVAILABLE"
        assert gateway.replica is not None
        assert not gateway.replica.connections


async def test_a_stream_that_ends_before_its_plan_says_why(nats_server: str, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    async with running_gateway(nats_server, token_grace_s=0.3) as gateway:
        replica = gateway.replica
        assert replica is not None
        async with A2aCaller(gateway, owner).follow(plan) as blocks:
            await blocks.read()
            for connection in list(replica.connections):
                connection.drain()
            told = await _next(blocks)
            assert await blocks.read() == {}
        assert told["event"] == "error"
        assert body_of(told)["error"]["details"][0]["metadata"]["code"] == "draining"
        async with A2aCaller(gateway, owner, expires_in=2).follow(plan) as blocks:
            await blocks.read()
            told = await _next(blocks)
            assert body_of(told)["error"]["details"][0]["metadata"]["code"] == "token_expired"
            assert body_of(told)["error"]["code"] == 401
        replica.draining = True
        caller = A2aCaller(gateway, owner)
        answer = await caller.rpc("SubscribeToTask", {"id": plan})
        assert error_of(answer) == (503, -32000, "UNAVAILABLE")
        assert answer.headers["retry-after"] == "1"
        replica.draining = False
        assert not replica.connections
        assert not replica.principals


async def test_a_revocation_ends_a_stream_and_a_waiting_call(nats_server: str, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    async with running_gateway(nats_server) as gateway:
        caller, replica = A2aCaller(gateway, owner), gateway.replica
        assert replica is not None
        message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "hi"}]}
        async with caller.follow(plan) as blocks:
            await blocks.read()
            waiting = asyncio.ensure_future(caller.rpc("SendMessage", {"message": message}))
            await until(lambda: replica.polls, what="it waits")
            replica.judge = lambda _: Problem(ErrorCode.REVOKED)
            replica.revoke([owner], every=False)
            told = await _next(blocks)
            assert await blocks.read() == {}
        assert body_of(told)["error"]["details"][0]["metadata"] == {"retryable": "false", "code": "revoked"}
        assert error_of(await waiting) == (403, -32000, "FORBIDDEN")
        assert not replica.connections
        assert not replica.principals


async def test_streams_and_waiting_calls_are_counted_as_connections(nats_server: str, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    async with running_gateway(nats_server, max_connections_per_principal=1, task_wait_s=1) as gateway:
        caller = A2aCaller(gateway, owner)
        message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "hi"}]}
        async with caller.follow(plan) as blocks:
            await blocks.read()
            for method, params in (("SubscribeToTask", {"id": plan}), ("SendMessage", {"message": message})):
                answer = await caller.rpc(method, params)
                assert error_of(answer) == (429, -32000, "TOO_MANY")
            assert (await caller.rpc("GetTask", {"id": plan})).status_code == 200
        replica = gateway.replica
        assert replica is not None
        await until(lambda: not replica.principals, seconds=1, what="the place is free")
        # Its time over, a waiting call is answered with the task as it is.
        task = (await caller.rpc("SendMessage", {"message": message})).json()["result"]["task"]
        assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
        assert not replica.principals
        async with gateway.http as client:
            text = (await client.get("/metrics")).text
        assert 'a2a_connections_opened_total{transport="a2a"}' in text
        assert 'a2a_connections{transport="a2a"} 0.0' in text
        assert 'a2a_problems_total{code="too_many_connections"} 2.0' in text


async def test_a_client_that_hangs_up_leaves_nothing(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    replica = gateway.replica
    assert replica is not None
    message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "hi"}]}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in {**bearer(owner, "buyer"), "A2A-Version": "1.0"}.items())
    asks = (
        f"POST /a2a HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body,
        f"GET /a2a/tasks/{plan}:subscribe HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode(),
        f"GET /a2a/tasks/{plan}:subscribe HTTP/1.0\r\nhost: x\r\n{head}\r\n".encode(),
    )
    for ask in asks:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(ask)
        await until(lambda: replica.principals.get(owner), what="it is served")
        writer.transport.abort()
        await until(lambda: not replica.principals.get(owner), seconds=1, what="it is released")
        del reader
    assert not replica.connections
    assert not replica.polls
    async with gateway.http as client:
        headers = {**bearer(owner, "buyer"), "A2A-Version": "1.0"}
        answer = await client.head(f"/a2a/tasks/{plan}:subscribe", headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.head("/a2a/tasks/p0:subscribe", headers=headers)).status_code == 404


async def _next(blocks: Any) -> dict[str, str]:
    """The next block, without the comments before it."""
    found: dict[str, str] = await blocks.read()
    return found
