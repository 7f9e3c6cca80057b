"""Bad input is answered by its code and harms nobody: another open connection notices nothing."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
import websockets
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.harness.events import event, fresh
from tests.harness.gateway import Gateway, Socket, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.raw import connected, frame, handshake
from tests.harness.tokens import SECRET, bearer, token
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def bystander(gateway: Gateway, publisher: Marketplace) -> AsyncIterator[None]:
    """Open before the bad input, and still served after it."""
    buyer = fresh("buyer")
    async with gateway.websocket(buyer) as socket:
        await socket.subscribe(f"buyer:{buyer}")
        yield
        document = event("ORDER_CREATED", buyer=buyer)
        await publisher.publish(document)
        assert (await socket.read())["event"] == document


def code(message: dict[str, Any]) -> str:
    assert message["op"] == "error"
    found: str = message["error"]["code"]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "invalid_json"),
        ("", "invalid_json"),
        ('{"op":"subscribe","channel":"\\ud800"}', "invalid_json"),
        ("[" * 60_000, "invalid_json"),
        ('{"op":' + '{"a":' * 10_000, "invalid_json"),
        ("[]", "invalid_message"),
        ("null", "invalid_message"),
        ('{"op":7}', "invalid_message"),
        ('{"id":1}', "invalid_message"),
        ('{"op":"subscribe"}', "invalid_message"),
        ('{"op":"subscribe","channel":"buyer:b1","last":0}', "invalid_message"),
        ('{"op":"subscribe","channel":"buyer:b1","last":1001}', "invalid_message"),
        ('{"op":"subscribe","channel":"buyer:b1","types":[]}', "invalid_message"),
        ('{"op":"subscribe","channel":"buyer:b1","on_gap":"x"}', "invalid_message"),
        ('{"op":"subscribe","channel":"buyer:b1","last":1,"cursor":"earliest"}', "invalid_message"),
        ('{"op":"subscribe","channel":"buyer:b1","since":"2026"}', "invalid_message"),
        ('{"op":"heartbeat","id":1.5}', "invalid_message"),
        ('{"op":"heartbeat","id":true}', "invalid_message"),
        ('{"op":"resume","channels":{"buyer:b1":7}}', "invalid_message"),
        ('{"op":"dance"}', "unknown_op"),
        ('{"op":"unsubscribe","channel":"buyer:b1"}', "not_subscribed"),
        ('{"op":"subscribe","channel":"buyer"}', "invalid_channel"),
        ('{"op":"subscribe","channel":"buyer:*"}', "invalid_channel"),
        ('{"op":"subscribe","channel":"dance:x"}', "unknown_channel"),
    ],
)
async def test_a_bad_message_is_answered_and_the_connection_stays(gateway: Gateway, text: str, expected: str) -> None:
    async with gateway.websocket("b1") as socket:
        await socket.raw.send(text)
        assert code(await socket.read()) == expected
        assert (await socket.ask(op="heartbeat", id="still")) == {"op": "heartbeat", "id": "still", "cursors": {}}


async def test_an_answer_repeats_the_id_of_its_message(gateway: Gateway) -> None:
    async with gateway.websocket("b1") as socket:
        for message_id in (7, -1, "x", "", 2**63):
            answer = await socket.ask(op="dance", id=message_id)
            assert answer["id"] == message_id
        assert (await socket.ask(op="subscribe", id=1, channel="buyer:b2"))["channel"] == "buyer:b2"


async def test_a_message_that_is_too_large_closes(gateway: Gateway) -> None:
    for text in ("x" * 65537, "x" * 3_000_000):
        async with gateway.websocket("b1") as socket:
            await socket.raw.send(text)
            assert code(await socket.read()) == "message_too_large"
            assert await socket.closed() == 4001
    async with gateway.websocket("b1") as socket:
        await socket.raw.send(iter(["x" * 40_000, "x" * 40_000]))
        assert code(await socket.read()) == "message_too_large"
        assert await socket.closed() == 4001
    async with gateway.websocket("b1") as socket:
        assert (await socket.ask(op="heartbeat", id="x" * 65_000))["op"] == "heartbeat"


async def test_binary_and_invalid_text_are_invalid(gateway: Gateway) -> None:
    async with gateway.websocket("b1") as socket:
        await socket.raw.send(b'{"op":"heartbeat"}')
        assert code(await socket.read()) == "invalid_message"
    async with connected(gateway.url) as raw:
        await raw.send(handshake("b1"))
        await raw.read_until(b"\r\n\r\n")
        await raw.read_message()
        await raw.send(frame(b'{"op":"\xff"}'))
        assert code(await raw.read_message()) == "invalid_json"
        half = b'{"op":"heart'
        await raw.send(frame(half, fin=False) + frame(b"", opcode=9) + frame(b'beat"}', opcode=0))
        assert (await raw.read_message())["op"] == "heartbeat"


@pytest.mark.parametrize(
    "fault",
    [
        frame(b"{}", mask=None),
        frame(b"{}", opcode=3),
        frame(b"{}", opcode=0),
        frame(b"x" * 126, opcode=9),
        frame(b"x", opcode=8),
        b"\xc1\x82\0\0\0\0{}",
        b"\x81\xff" + b"\xff" * 8,
    ],
)
async def test_a_faulty_frame_closes_the_connection(gateway: Gateway, fault: bytes) -> None:
    async with connected(gateway.url) as raw:
        await raw.send(handshake("b1"))
        await raw.read_until(b"\r\n\r\n")
        await raw.read_message()
        await raw.send(fault + frame(b'{"op":"heartbeat"}'))
        message = await raw.read_message()
        while message["op"] == "error":
            message = await raw.read_message()
        assert message["op"] == "close"
        assert message["code"] in (4001, 4006)


async def test_ten_malformed_messages_in_a_minute_close(gateway: Gateway) -> None:
    async with gateway.websocket("b1") as socket:
        for _ in range(10):
            await socket.raw.send("{")
        assert [code(await socket.read()) for _ in range(10)] == ["invalid_json"] * 10
        assert await socket.closed() == 4001


async def test_the_129th_channel_is_refused_and_the_others_stay(gateway: Gateway, publisher: Marketplace) -> None:
    async with gateway.websocket("b1") as socket:
        cursor = await publisher.cursor()
        await socket.send(op="resume", id=1, channels={f"order:o{number}": cursor for number in range(129)})
        answers = [await socket.read() for _ in range(128 * 2 + 1)]
        assert [code(one) for one in answers if one["op"] == "error"] == ["too_many_subscriptions"]
        assert sum(one["op"] == "live" for one in answers) == 128
        assert code(await socket.ask(op="subscribe", channel="order:o1")) == "already_subscribed"
        await socket.ask(op="unsubscribe", channel="order:o1")
        assert len(await socket.subscribe("buyer:b1")) == 2


async def test_who_sends_too_fast_is_told_and_then_closed(nats_server: str) -> None:
    async with (
        running_gateway(nats_server, client_rate=1, client_burst=5) as gateway,
        gateway.websocket("b1") as socket,
    ):
        for _ in range(30):
            await socket.send(op="heartbeat")
        answers = [await socket.read() for _ in range(5)]
        assert [one["op"] for one in answers] == ["heartbeat"] * 5
        error = (await socket.read())["error"]
        assert error["code"] == "rate_limited"
        assert 0 < error["retry_after_ms"] <= 1001
        assert await socket.closed() == 4101


KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def unsigned(header: dict[str, Any] | bytes, claims: dict[str, Any], sign: bytes = b"") -> str:
    """A token made by hand."""

    def part(content: Any) -> bytes:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    body = part(header) + b"." + part(claims)
    signature = base64.urlsafe_b64encode(hmac.digest(sign, body, hashlib.sha256)).rstrip(b"=") if sign else b""
    return (body + b"." + signature).decode()


CLAIMS = {"sub": "b1", "role": "buyer", "exp": int(time.time()) + 3600}
FORGED = {
    "unsigned": unsigned({"alg": "none"}, CLAIMS),
    "None": unsigned({"alg": "None"}, CLAIMS),
    "wrong key": jwt.encode(CLAIMS, SECRET + "x", "HS256"),
    "public key as secret": unsigned({"alg": "HS256"}, CLAIMS, PEM),
    "an algorithm without a key": jwt.encode(CLAIMS, KEY, "RS256"),
    "an algorithm that is none": unsigned({"alg": ["HS256"]}, CLAIMS),
    "a deep header": unsigned(b'{"alg":' + b"[" * 5000, CLAIMS),
    "no token": "x",
    "two dots": "..",
    "no role": jwt.encode({**CLAIMS, "role": None}, SECRET, "HS256"),
    "another role": jwt.encode({**CLAIMS, "role": "root"}, SECRET, "HS256"),
    "no exp": jwt.encode({"sub": "b1", "role": "buyer"}, SECRET, "HS256"),
    "a sub that is no id": jwt.encode({**CLAIMS, "sub": "b1.>"}, SECRET, "HS256"),
    "channels that are no list": jwt.encode({**CLAIMS, "channels": "buyer:*"}, SECRET, "HS256"),
    "too long": "x" * 9000,
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
async def test_a_forged_token_is_refused_wherever_it_comes(gateway: Gateway, forged: str) -> None:
    async with gateway.websocket() as socket:
        await socket.send(op="auth", id=1, token=forged)
        answer = await socket.read()
        assert (code(answer), answer["id"]) == ("token_invalid", 1)
        assert await socket.closed() == 4003
    for headers in ({"Authorization": f"Bearer {forged}"}, {"Cookie": f"a2a_session={forged}", "Origin": gateway.url}):
        address = gateway.url.replace("http", "ws", 1) + "/v1/ws"
        async with websockets.connect(address, additional_headers=headers) as raw:
            assert code(await Socket(raw).read()) == "token_invalid"
            assert await Socket(raw).closed() == 4003
        async with gateway.http as client:
            for path in ("/v1/events?channel=buyer:b1", "/v1/channels/buyer:b1/events"):
                answer_ = await client.get(path, headers=headers)
                assert (answer_.status_code, answer_.json()["code"]) == (401, "token_invalid"), path
                assert answer_.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_an_expired_token_closes_4202_and_is_worth_a_new_one(gateway: Gateway) -> None:
    old = token("b1", "buyer", -10)
    async with gateway.websocket() as socket:
        assert code(await socket.ask(op="auth", token=old)) == "token_expired"
        assert await socket.closed() == 4202
    address = gateway.url.replace("http", "ws", 1) + "/v1/ws"
    async with websockets.connect(address, additional_headers={"Authorization": f"Bearer {old}"}) as raw:
        assert code(await Socket(raw).read()) == "token_expired"
        assert await Socket(raw).closed() == 4202
    async with gateway.http as client:
        answer = await client.get("/v1/channels/buyer:b1/events", headers=bearer("b1", "buyer", -10))
        assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


async def test_only_auth_may_be_first_and_it_must_come_in_time(nats_server: str) -> None:
    async with running_gateway(nats_server, auth_timeout_s=0.3) as gateway:
        async with gateway.websocket() as socket:
            assert code(await socket.ask(op="subscribe", channel="buyer:b1")) == "unauthenticated"
            assert await socket.closed() == 4003
        async with gateway.websocket() as socket:
            assert code(await socket.read()) == "unauthenticated"
            assert await socket.closed() == 4008
        async with gateway.websocket() as socket:
            await socket.send(op="auth", token=token("b1", "buyer"))
            await socket.send(op="subscribe", channel="buyer:b1")  # sent before the answer, kept until it
            assert [(await socket.read())["op"] for _ in range(3)] == ["welcome", "subscribed", "live"]


async def test_a_token_refreshed_in_place_keeps_what_it_still_allows(gateway: Gateway) -> None:
    async with gateway.websocket("b1") as socket:
        await socket.subscribe("buyer:b1")
        await socket.subscribe("order:o1")
        assert await socket.ask(op="auth", id=1, token=token("b1", "buyer")) == {"op": "auth", "id": 1}
        narrower = token("b1", "buyer", channels=["buyer:*"])
        assert (await socket.ask(op="auth", id=2, token=narrower))["op"] == "auth"
        assert await socket.read() == {"op": "unsubscribed", "channel": "order:o1"}
        assert code(await socket.ask(op="subscribe", channel="order:o1")) == "forbidden"
        assert code(await socket.ask(op="auth", token=token("b2", "buyer"))) == "forbidden"
        assert await socket.closed() == 4003


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (handshake("b1", leave_out="Sec-WebSocket-Key"), 400),
        (handshake("b1", Sec_WebSocket_Key="short"), 400),
        (handshake("b1", Sec_WebSocket_Version="12"), 426),
        (handshake("b1", leave_out="Sec-WebSocket-Version"), 426),
        (handshake("b1", request_line="POST /v1/ws HTTP/1.1"), 400),
        (handshake("b1", request_line="GET /v1/ws HTTP/1.0"), 400),
        (handshake("b1", request_line="GET /v1/nothing HTTP/1.1"), 404),
        (handshake("b1", request_line="GET /v1/events?channel=buyer:b1 HTTP/1.1"), 404),
        (handshake("b1", request_line="GET /v1/ws\xff HTTP/1.1"), 400),
        (handshake("b1", request_line="GET //[ HTTP/1.1"), None),
        (handshake("b1", request_line="GET http://[ HTTP/1.1"), 400),
        (handshake("b1", request_line="GET http://g HTTP/1.1"), 404),
        (handshake("b1", Origin="https://evil.example"), 403),
        (handshake("b1", Origin="null"), 403),
        (handshake(Cookie=f"a2a_session={token('b1', 'buyer')}"), 101),  # another Host: not the loopback's cookie
        (handshake(Host="127.0.0.1", Cookie=f"a2a_session={token('b1', 'buyer')}"), 403),
        (b"GET /v1/ws HTTP/1.1\r\nHost: g\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
async def test_a_bad_handshake_is_answered(gateway: Gateway, ask: bytes, status: int | None) -> None:
    async with connected(gateway.url) as raw:
        await raw.send(ask)
        answer = await raw.read_until(b"\r\n\r\n")
        if status is not None:
            assert answer.split(b" ")[1] == str(status).encode()
        if status == 426:
            assert b"sec-websocket-version: 13" in answer.lower()


async def test_a_head_that_never_ends_is_cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.gateway.transports.takeover import GatewayHttp

    monkeypatch.setattr(GatewayHttp, "head_seconds", 0.3)
    async with connected(gateway.url) as slow, connected(gateway.url) as silent, connected(gateway.url) as large:
        await slow.send(b"GET /v1/events HTTP/1.1\r\nX-A: 1\r\n")
        await large.send(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 110)
        assert (await slow.read_all()).split(b" ")[1] == b"408"
        assert (await large.read_all()).split(b" ")[1] == b"431"
        assert await silent.read_all() == b""


async def test_a_client_that_does_not_answer_is_taken_for_gone(nats_server: str) -> None:
    async with running_gateway(nats_server, heartbeat_s=0.3, idle_s=1) as gateway:
        async with connected(gateway.url) as raw, gateway.websocket("b1") as answering:
            await raw.send(handshake("b1"))
            await raw.read_until(b"\r\n\r\n")
            message: dict[str, Any] = {}
            beats = 0
            while message.get("op") != "close":
                message = await raw.read_message()
                beats += message["op"] == "heartbeat"
            assert message["code"] == 4201
            assert beats
            assert (await answering.ask(op="heartbeat", id=1))["op"] == "heartbeat"
        assert gateway.replica is not None
        replica = gateway.replica
        await until(lambda: not replica.connections, seconds=1)


async def test_more_connections_than_allowed_are_told_after_the_upgrade(nats_server: str) -> None:
    async with running_gateway(nats_server, max_connections_per_principal=2) as gateway:
        async with gateway.websocket("b1"), gateway.websocket("b1"):
            async with gateway.websocket("b1") as third:
                assert third.welcome["error"]["code"] == "too_many_connections"
                assert await third.closed() == 4005
            async with gateway.websocket("b2") as other:
                assert other.welcome["op"] == "welcome"
        replica = gateway.replica
        assert replica is not None
        await until(lambda: not replica.principals, seconds=1)
        async with gateway.websocket("b1") as socket:
            assert socket.welcome["op"] == "welcome"


async def test_a_close_is_answered_and_a_lost_close_is_forced(gateway: Gateway) -> None:
    async with gateway.websocket("b1") as socket:
        await socket.raw.close(1000)
        assert socket.raw.close_code == 1000
    async with connected(gateway.url) as raw:
        await raw.send(handshake("b1"))
        await raw.read_until(b"\r\n\r\n")
        await raw.read_message()
        await raw.send(frame(b"\x03\xe8", opcode=8))
        assert (await raw.read_message())["op"] == "close"
        assert await raw.read_all() == b""
    await asyncio.sleep(0)
