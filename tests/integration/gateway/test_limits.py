"""Every limit of the protocol met once by a client: what it is told, and with which code it is closed (PROTOCOL §9)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import websockets

from tests.harness.events import fresh
from tests.harness.fleet import replica_of
from tests.harness.gateway import Gateway, Socket, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.raw import connected, handshake, request
from tests.harness.tokens import bearer, token
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Where a proxy is trusted, this is who comes through it.
FROM_OUTSIDE = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tight(nats_server: str) -> AsyncIterator[Gateway]:
    """A gateway whose every limit is near."""
    async with running_gateway(
        nats_server,
        heartbeat_s=0.4,
        idle_s=3,
        auth_timeout_s=1,
        token_grace_s=0.2,
        stall_s=0.5,
        max_channels=2,
        max_connections_per_principal=2,
        client_rate=5,
        client_burst=10,
        write_high_bytes=16 * 1024,
        connect_rate=0.01,  # however long the test takes, there is none to spare
        connect_burst=3,
        trusted_proxies="127.0.0.1",
    ) as found:
        yield found


async def told(socket: Socket) -> tuple[str, bool, bool]:
    """The next error's code, whether a retry helps, and whether it says when."""
    error = (await socket.read_until("error"))[-1]["error"]
    return error["code"], error["retryable"], "retry_after_ms" in error


async def test_a_heartbeat_comes_though_nothing_happens(tight: Gateway) -> None:
    async with tight.websocket(fresh("buyer")) as socket:
        assert (await socket.read(2))["op"] == "heartbeat"


async def test_no_frame_for_the_idle_time_closes_4201(tight: Gateway) -> None:
    async with connected(tight.url) as mute:  # a library would answer the pings
        await mute.send(handshake(fresh("buyer")))
        await mute.read_until((4201).to_bytes(2, "big") + b"no_heartbeat")


async def test_no_token_in_time_closes_4008(tight: Gateway) -> None:
    async with tight.websocket() as socket:
        assert (await told(socket))[0] == "unauthenticated"
        assert await socket.closed() == 4008


async def test_a_token_that_ended_closes_4202_after_its_grace(tight: Gateway) -> None:
    async with tight.websocket() as socket:
        await socket.send(op="auth", token=token(fresh("buyer"), "buyer", expires_in=1))
        assert (await told(socket))[:2] == ("token_expired", True)
        assert await socket.closed() == 4202
    async with tight.events("channel=buyer:b1", headers=bearer("b1", "buyer", expires_in=1)) as blocks:
        problem = (await blocks.read_until("problem"))[-1]
        assert json.loads(problem["data"])["code"] == "token_expired"
        assert await blocks.read() == {}


async def test_a_channel_too_many_is_refused_and_the_connection_stays(tight: Gateway) -> None:
    who = fresh("buyer")
    async with tight.websocket(who) as socket:
        for channel in (f"buyer:{who}", "order:o1"):
            await socket.subscribe(channel)
        await socket.send(op="subscribe", id=3, channel="order:o2")
        assert await told(socket) == ("too_many_subscriptions", False, False)
        await socket.send(op="heartbeat", id=4)
        assert (await socket.read_until("heartbeat"))[-1]["op"] == "heartbeat"


async def test_a_connection_too_many_closes_4005(tight: Gateway) -> None:
    who = fresh("buyer")
    async with tight.websocket(who), tight.events(f"channel=buyer:{who}", who) as blocks:
        await blocks.read_until("live")
        async with tight.websocket(who) as socket:
            error = socket.welcome["error"]
            assert (error["code"], error["retryable"]) == ("too_many_connections", True)
            assert error["retry_after_ms"] > 0
            assert await socket.closed() == 4005
        async with tight.events(f"channel=buyer:{who}", who) as refused:
            [*_, retry, problem] = await refused.read_until("problem")
            assert int(retry["retry"]) > 0
            assert json.loads(problem["data"])["code"] == "too_many_connections"


async def test_messages_too_fast_are_refused_and_go_on_closes_4101(tight: Gateway) -> None:
    async with tight.websocket(fresh("buyer")) as socket:
        for number in range(40):
            await socket.send(op="heartbeat", id=number)
        assert await told(socket) == ("rate_limited", True, True)
        assert await socket.closed() == 4101


async def test_presence_and_signals_too_fast_are_refused_and_the_connection_stays(gateway: Gateway) -> None:
    async with gateway.websocket("root", "admin") as socket:
        await socket.subscribe("order:o1")
        for number in range(8):
            await socket.send(op="presence", id=number, channel="order:o1", action="update")
        [*granted, error] = await socket.read_until("error")
        assert len(granted) >= 5
        assert (error["error"]["code"], error["error"]["retryable"]) == ("rate_limited", True)
        assert 0 < error["error"]["retry_after_ms"] <= 6001
        for kind in ("typing", "status"):
            for number in range(4):
                await socket.send(op="signal", id=f"{kind} {number}", channel="order:o1", kind=kind)
            while not str(error["id"]).startswith(kind):
                [*_, error] = await socket.read_until("error")
            assert error["error"]["code"] == "rate_limited"
            assert 0 < error["error"]["retry_after_ms"] <= 1001
        await socket.send(op="presence", id=9, channel="order:o1", action="enter", data="x" * 1023)
        while error["id"] != 9:
            [*_, error] = await socket.read_until("error")
        assert error["error"]["code"] == "invalid_message"
        await socket.send(op="heartbeat", id=10)
        assert (await socket.read_until("heartbeat"))[-1]["id"] == 10


async def test_connects_too_fast_from_one_address_close_4101(tight: Gateway) -> None:
    async def connect(**headers: str) -> dict[str, Any]:
        address = tight.url.replace("http", "ws", 1) + "/v1/ws"
        identified = {**bearer(fresh("buyer"), "buyer"), **headers}
        async with websockets.connect(address, additional_headers=identified) as raw:
            socket = Socket(raw)
            message = await socket.read()
            if message["op"] == "error":
                assert await socket.closed() == 4101
            return message

    said = [await connect(**FROM_OUTSIDE) for _ in range(8)]
    errors = [message["error"] for message in said if message["op"] == "error"]
    assert said[0]["op"] == "welcome"
    assert {error["code"] for error in errors} == {"rate_limited"}
    assert all(error["retry_after_ms"] > 0 for error in errors)
    # What a client wrote there itself is not believed: it comes from where the trusted proxy saw it.
    assert (await connect(**{"X-Forwarded-For": "192.0.2.1, 203.0.113.9"}))["op"] == "error"
    assert (await connect(**{"X-Forwarded-For": "203.0.113.77"}))["op"] == "welcome"
    assert (await connect())["op"] == "welcome"
    who = fresh("buyer")
    async with tight.events(f"channel=buyer:{who}", who, headers=FROM_OUTSIDE) as blocks:
        [*_, retry, problem] = await blocks.read_until("problem")
        assert json.loads(problem["data"])["code"] == "rate_limited"
        assert int(retry["retry"]) > 0
    async with tight.http as client:
        headers = {**bearer(who, "buyer"), **FROM_OUTSIDE, "A2A-Version": "1.0"}
        answer = await client.get("/a2a/tasks/p1:subscribe", headers=headers)
        assert (answer.status_code, "too many connections from this address" in answer.text) == (429, True)


async def test_a_message_too_large_closes_4001(tight: Gateway) -> None:
    async with tight.websocket(fresh("buyer")) as socket:
        await socket.raw.send("x" * 70_000)
        assert (await told(socket))[0] == "message_too_large"
        assert await socket.closed() == 4001


async def test_the_tenth_malformed_message_closes_4001(gateway: Gateway) -> None:
    async with gateway.websocket(fresh("buyer")) as socket:
        for _ in range(10):
            await socket.raw.send("{")
        for _ in range(10):
            assert (await told(socket))[0] == "invalid_json"
        assert await socket.closed() == 4001


async def test_a_client_that_takes_nothing_closes_4102(tight: Gateway, publisher: Marketplace) -> None:
    who = fresh("buyer")
    replica = replica_of(tight)
    async with connected(tight.url, receive_bytes=4096) as stuck:
        await stuck.send(request(f"/v1/events?channel=buyer:{who}", who))
        await stuck.read_until(b"event: live")
        before = replica.tally.closed.get("too_slow", 0)
        await publisher.orders(40, buyer=who, padding=200_000)
        await until(lambda: replica.tally.closed.get("too_slow", 0) > before, what="it is let go")
    async with connected(tight.url, receive_bytes=4096) as stuck:
        await stuck.send(handshake(who))
        await stuck.read_until(b"\r\n\r\n")
        await stuck.send_message(op="subscribe", channel=f"buyer:{who}", cursor="earliest")
        await until(lambda: replica.tally.closed.get("too_slow", 0) > before + 1, what="it is closed")


async def test_a_replica_without_memory_closes_4100(nats_server: str) -> None:
    async with running_gateway(nats_server, memory_limit_bytes=1) as full:
        await until(lambda: replica_of(full).overloaded)
        async with full.websocket("b1") as socket:
            error = socket.welcome["error"]
            assert (error["code"], error["retryable"]) == ("overloaded", True)
            assert error["retry_after_ms"] > 0
            assert await socket.closed() == 4100
        async with full.events("channel=buyer:b1") as blocks:
            [*_, retry, problem] = await blocks.read_until("problem")
            assert json.loads(problem["data"])["code"] == "overloaded"
            assert int(retry["retry"]) > 0
        async with full.http as client:
            answer = await client.get("/v1/channels/buyer:b1/events", headers=bearer("b1", "buyer"))
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) > 0
            ready = await client.get("/readyz")  # whom it has it serves
            assert (ready.status_code, ready.json()["overloaded"]) == (200, True)
            assert "a2a_overloaded 1.0" in (await client.get("/metrics")).text


async def test_a_replica_that_leaves_closes_4200(nats_server: str) -> None:
    async with running_gateway(nats_server, drain_grace_s=0, drain_spread_s=1) as leaving:
        replica = replica_of(leaving)
        async with leaving.websocket("b1") as socket, leaving.events("channel=buyer:b1") as blocks:
            await blocks.read_until("live")
            replica.leaving = True
            replica.drain()
            async with leaving.websocket("b1") as late:
                error = late.welcome["error"]
                assert (error["code"], error["retryable"], error["retry_after_ms"]) == ("draining", True, 1000)
                assert await late.closed() == 4200
            for connection in list(replica.connections):
                connection.drain()
            assert (await socket.read())["op"] == "drain"
            assert await socket.closed() == 4200
            assert (await blocks.read_until("drain"))[-1]["event"] == "drain"
