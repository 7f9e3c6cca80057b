"""Odd ways to hold a connection get a correct answer and leave nothing behind."""

import asyncio
import contextlib
import gc
import json

import httpx
import pytest

from contracts.principal import Principal
from services.chassis.auth import TokenVerifier
from services.gateway.core.eventstream import EventStream
from services.gateway.core.session import Session
from services.gateway.transports.line import HEARD_A_TURN
from services.gateway.transports.takeover import GatewayHttp
from services.gateway.transports.websocket import WebSocketTransport
from tests.harness.events import event, fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.raw import Raw, connected, frame, handshake, request
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOSED = {b"connection: close"}


async def nothing_is_left(gateway: Gateway) -> None:
    """Within the second that PROTOCOL §6 allows."""
    replica = gateway.replica
    assert replica is not None

    def held() -> list[object]:
        streams = replica.streams.values()
        return [*replica.connections, *replica.principals, *(reader for one in streams for reader in one.readers)]

    await until(lambda: not held(), seconds=1, what="everything is released")
    assert [len(stream.fanout) for stream in replica.streams.values()] == [0, 0]
    assert not any(stream.lagging for stream in replica.streams.values())


async def head_of(raw: Raw) -> bytes:
    return await raw.read_until(b"\r\n\r\n")


async def live(raw: Raw) -> bytes:
    return await raw.read_until(b"event: live") + await raw.read_until(b"\n\n")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", ["sse", "websocket", "long poll"])
async def test_what_a_client_held_is_released_when_it_leaves(gateway: Gateway, kind: str, how: str) -> None:
    async with connected(gateway.url) as raw:
        if kind == "sse":
            await raw.send(request("/v1/events?channel=buyer:b1&channel=order:o1"))
            await live(raw)
        elif kind == "websocket":
            await raw.send(handshake("b1"))
            await head_of(raw)
            for channel in ("buyer:b1", "plan:p1"):
                await raw.send_message(op="subscribe", channel=channel)
            while (await raw.read_message()).get("channel") != "plan:p1":
                pass
        else:
            await raw.send(request("/v1/channels/buyer:b1/events?wait=20"))
            replica = gateway.replica
            assert replica is not None
            await until(lambda: replica.streams["MARKET"].readers)
        if how == "reset":
            raw.reset()
    await nothing_is_left(gateway)


async def test_a_client_that_pipelines_behind_an_event_stream_is_still_seen_to_leave(gateway: Gateway) -> None:
    async with connected(gateway.url) as raw:
        await raw.send(request("/v1/events?channel=buyer:b1") + request("/livez") * 3)
        await live(raw)
        assert gateway.replica is not None
        assert len(gateway.replica.connections) == 1
    await nothing_is_left(gateway)


async def test_a_client_that_sends_a_body_with_its_request_is_still_seen_to_leave(gateway: Gateway) -> None:
    async with connected(gateway.url) as raw:
        ask = request("/v1/events?channel=buyer:b1").replace(b"\r\n\r\n", b"\r\nContent-Length: 200000\r\n\r\n")
        await raw.send(ask + b"x" * 200_000)
        await live(raw)
    await nothing_is_left(gateway)


async def test_requests_pipelined_before_an_event_stream_are_answered_first(
    gateway: Gateway, publisher: Marketplace
) -> None:
    buyer = fresh("buyer")
    async with connected(gateway.url) as raw:
        await raw.send(request("/livez") + request("/nothing") + request(f"/v1/events?channel=buyer:{buyer}", buyer))
        answers = await live(raw)
        assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]
        await publisher.publish(event("INTENT_CREATED", buyer=buyer))
        await raw.read_until(b"event: INTENT_CREATED")
    await nothing_is_left(gateway)


async def test_an_upgrade_pipelined_behind_another_request_is_not_taken(gateway: Gateway) -> None:
    async with connected(gateway.url) as raw:
        await raw.send(request("/v1/channels/buyer:b1/events?wait=1") + handshake("b1"))
        assert b"101" not in await raw.read_all()
    await nothing_is_left(gateway)


async def test_frames_sent_right_behind_the_handshake_are_heard(gateway: Gateway) -> None:
    async with connected(gateway.url) as raw:
        first = frame(json.dumps({"op": "subscribe", "id": 1, "channel": "buyer:b1"}).encode())
        await raw.send(handshake("b1") + first + first[:10])
        await head_of(raw)
        assert [(await raw.read_message())["op"] for _ in range(3)] == ["welcome", "subscribed", "live"]
        await raw.send(first[10:])
        assert (await raw.read_message())["error"]["code"] == "already_subscribed"
    await nothing_is_left(gateway)


async def test_an_event_stream_to_http_1_0_is_delimited_by_its_end(gateway: Gateway, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    async with connected(gateway.url) as raw:
        await raw.send(request(f"/v1/events?channel=buyer:{buyer}", buyer, version="1.0"))
        head = (await head_of(raw)).lower()
        assert head.startswith(b"http/1.1 200")
        assert b"transfer-encoding" not in head
        assert b"content-length" not in head
        assert b"connection: close" in head
        await raw.read_until(b"event: live")
        await publisher.publish(event("INTENT_CREATED", buyer=buyer))
        await raw.read_until(b"event: INTENT_CREATED")
    await nothing_is_left(gateway)


async def test_head_tells_what_get_would_and_holds_nothing(gateway: Gateway, publisher: Marketplace) -> None:
    ended = fresh("plan")
    await publisher.plan("b1", ended, final=True)
    end = await publisher.cursor(stream="PLANS")
    async with connected(gateway.url) as raw:
        for path, status in (
            ("/v1/events?channel=buyer:b1", b"200"),
            ("/v1/events?channel=buyer:b2", b"403"),
            ("/v1/events", b"400"),
            (f"/v1/events?plan_id={ended}&cursor={end}", b"204"),
            ("/v1/channels/buyer:b1/events", b"200"),
            ("/readyz", b"200"),
        ):
            await raw.send(request(path, method="HEAD"))
            head = await head_of(raw)
            assert head.split(b" ")[1] == status, path
            if path.startswith("/v1/events?channel=buyer:b1"):
                assert b"content-type: text/event-stream\r\n" in head
        await raw.send(request("/livez"))
        assert (await head_of(raw)).startswith(b"HTTP/1.1 200")  # nothing but heads came before it
    await nothing_is_left(gateway)


@pytest.mark.parametrize(
    ("path", "status", "mark"),
    [
        ("/v1/events?channel=buyer:b1", b"200", b"retry: "),
        ("/v1/events?channel=buyer:b1&cursor=earliest&on_gap=refuse", b"200", b"retry: "),
        ("/v1/events?channel=buyer:b2", b"403", b'"forbidden"'),
        ("/v1/channels/buyer:b1/events", b"200", b'"live":true'),
        ("/v1/channels/buyer:b1/events?wait=20", b"200", b'"events":[]'),
        ("/livez", b"200", b"ok"),
    ],
)
async def test_a_client_that_closes_its_side_after_asking_gets_its_answer_and_leaves_nothing(
    gateway: Gateway, path: str, status: bytes, mark: bytes
) -> None:
    async with connected(gateway.url) as raw:
        await raw.send(request(path))
        raw.half_close()
        answer = await raw.read_all()
        assert answer.split(b" ")[1] == status
        assert mark in answer
        await nothing_is_left(gateway)


async def test_a_client_that_closes_its_side_while_its_token_is_verified_is_answered_too(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = TokenVerifier.verify

    async def slowly(verifier: TokenVerifier, token: str) -> Principal:
        await asyncio.sleep(0.2)  # as where the issuer's keys are fetched first
        return await verify(verifier, token)

    monkeypatch.setattr(TokenVerifier, "verify", slowly)
    async with connected(gateway.url) as raw:
        await raw.send(handshake("b1") + frame(b'{"op":"heartbeat","id":1}'))
        raw.half_close()
        answer = await raw.read_all()
        assert b"welcome" in answer
        assert b'"op":"heartbeat","id":1' in answer
        await nothing_is_left(gateway)


async def test_a_client_that_closes_its_side_of_a_running_stream_is_let_go(gateway: Gateway) -> None:
    async with connected(gateway.url) as stream, connected(gateway.url) as socket, connected(gateway.url) as poll:
        await stream.send(request("/v1/events?channel=buyer:b1"))
        await live(stream)
        await socket.send(handshake("b1"))
        await head_of(socket)
        await poll.send(request("/v1/channels/buyer:b1/events?wait=20"))
        replica = gateway.replica
        assert replica is not None
        await until(lambda: len(replica.streams["MARKET"].readers) == 2)
        for raw in (stream, socket, poll):
            raw.half_close()
        await stream.read_all()
        await socket.read_all()
        assert b'"live":true' in await poll.read_all()
        await nothing_is_left(gateway)


async def test_a_stream_half_closed_while_it_replays_ends_and_leaves_nothing(
    gateway: Gateway, publisher: Marketplace
) -> None:
    buyer = fresh("buyer")
    await publisher.orders(300, buyer=buyer, padding=10_000)
    for _ in range(5):
        async with connected(gateway.url) as raw:
            await raw.send(request(f"/v1/events?channel=buyer:{buyer}&cursor=earliest", buyer))
            await head_of(raw)
            raw.half_close()
            await raw.read_all()
    await nothing_is_left(gateway)


async def test_clients_that_leave_while_they_are_let_in_leave_nothing(gateway: Gateway) -> None:
    for ask in (
        request("/v1/events?channel=buyer:b1&cursor=earliest&on_gap=refuse"),
        request("/v1/events?plan_id=none"),
        request("/v1/channels/buyer:b1/events?wait=9"),
        handshake("b1"),
    ):
        for turns in range(4):
            async with connected(gateway.url) as raw:
                await raw.send(ask)
                for _ in range(turns):
                    await asyncio.sleep(0)
                raw.reset()
    await nothing_is_left(gateway)


async def test_a_connection_is_kept_alive_over_plain_requests(gateway: Gateway) -> None:
    async with connected(gateway.url) as raw:
        for _ in range(3):
            await raw.send(request("/livez"))
            assert await raw.read_until(b"ok\n")


async def test_another_upgrade_is_answered_as_if_it_had_not_been_asked(gateway: Gateway) -> None:
    async with connected(gateway.url) as raw:
        ask = request("/livez").replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        await raw.send(ask)
        assert (await raw.read_until(b"ok\n")).startswith(b"HTTP/1.1 200")


async def test_the_head_of_an_event_stream_is_as_promised_and_its_first_bytes_come_at_once(gateway: Gateway) -> None:
    async with (
        httpx.AsyncClient(base_url=gateway.url) as client,
        client.stream("GET", "/v1/events?channel=buyer:b1", headers=bearer("b1", "buyer")) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        first = await anext(answer.aiter_bytes())
        assert first.startswith(b"retry: ")
        assert 2000 <= int(first.split(b"\n")[0].removeprefix(b"retry: ")) <= 3000
        assert first.split(b"\n")[1] == b""


async def test_live_events_go_between_the_handshakes_of_a_storm(gateway: Gateway) -> None:
    replica, count = gateway.replica, 3 * HEARD_A_TURN
    assert replica is not None
    async with contextlib.AsyncExitStack() as stack:
        storm = [await stack.enter_async_context(connected(gateway.url)) for _ in range(count)]
        await until(lambda: _held(GatewayHttp) >= count, what="all are accepted")
        for number, raw in enumerate(storm):
            await raw.send(handshake(f"b{number}"))
        opened, most = 0, 0
        async with asyncio.timeout(20):
            while opened < count:
                before = opened
                await asyncio.sleep(0)
                opened = len(replica.connections)
                most = max(most, opened - before)
        assert 1 < most <= HEARD_A_TURN
        for raw in storm:
            assert b"101 Switching" in await head_of(raw)


async def test_who_waits_to_be_heard_is_not_late(nats_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatewayHttp, "head_seconds", 0.5)
    async with running_gateway(nats_server) as gateway:
        with monkeypatch.context() as full:
            full.setattr("services.gateway.transports.line.HEARD_A_TURN", 0)
            async with connected(gateway.url) as last, connected(gateway.url) as waiting:
                await last.send(handshake("b1"))
                await head_of(last)
                await waiting.send(handshake("b2"))
                waiting.half_close()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.2):
                        await head_of(waiting)
                full.undo()
                assert b"101 Switching" in await head_of(waiting)


async def test_who_waits_when_the_gateway_stops_is_heard_and_told(
    nats_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        async with contextlib.AsyncExitStack() as clients:
            async with running_gateway(nats_server) as gateway:
                full.setattr("services.gateway.transports.line.HEARD_A_TURN", 0)
                last, asks, polls = [await clients.enter_async_context(connected(gateway.url)) for _ in range(3)]
                await last.send(handshake("b1"))
                await head_of(last)
                await asks.send(handshake("b2"))
                await polls.send(request("/livez"))
                await until(lambda: _waiting() == 2, what="both wait")
                asyncio.get_running_loop().call_later(0.3, full.undo)
            for raw in (last, asks):
                await raw.read_until(b'"op":"drain"')
            assert b" 200 " in await polls.read_all()


async def test_what_a_client_held_goes_with_it_and_waits_for_no_collector(gateway: Gateway) -> None:
    # The collector looks at old objects seldom, and a gateway that waits for it grows meanwhile.
    gc.collect()
    gc.disable()
    try:
        async with gateway.events("channel=buyer:b1") as blocks:
            await blocks.read_until("live")
            assert _held(EventStream) == 1
        async with gateway.http as client:
            assert (await client.get("/livez")).status_code == 200
        await until(lambda: not _held(EventStream) and not _held(GatewayHttp), what="nothing is left")
    finally:
        gc.enable()


@pytest.mark.parametrize("way", ["closed", "aborted"])
async def test_a_websocket_that_goes_waits_for_no_collector_either(gateway: Gateway, way: str) -> None:
    gc.collect()
    gc.disable()
    try:
        async with gateway.websocket("b1") as socket:
            await socket.subscribe("buyer:b1")
            assert _held(Session) == 1
            if way == "aborted":
                socket.raw.transport.abort()
        await until(lambda: not _held(Session) and not _held(WebSocketTransport), what="nothing is left")
    finally:
        gc.enable()


@pytest.mark.parametrize("odd", [{"Origin": "https://evil.example"}, {"Sec_WebSocket_Version": "8"}])
async def test_a_handshake_that_is_denied_leaves_nothing_for_the_collector(
    gateway: Gateway, odd: dict[str, str]
) -> None:
    gc.collect()
    gc.disable()
    try:
        async with connected(gateway.url) as raw:
            await raw.send(handshake("b1", **odd))
            assert b" 101 " not in await head_of(raw)
        await until(lambda: not _held(GatewayHttp), what="nothing is left")
    finally:
        gc.enable()


def _waiting() -> int:
    return sum(one.waits for one in gc.get_objects() if type(one) is GatewayHttp)


def _held(kind: type[object]) -> int:
    return sum(issubclass(type(one), kind) for one in gc.get_objects())
