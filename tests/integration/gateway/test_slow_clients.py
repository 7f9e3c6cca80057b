"""A client that does not keep up costs its socket buffer; it gets everything, in order, once, or is told to go."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.raw import Raw, connected, frame, handshake, request
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL: dict[str, Any] = {"log_bytes": 1024**2, "write_high_bytes": 16 * 1024}
KIB = 1024


@contextlib.asynccontextmanager
async def slow_socket(gateway: Gateway, sub: str) -> AsyncIterator[Raw]:
    """A WebSocket that reads only when the test does."""
    async with connected(gateway.url, receive_bytes=4096, limit=4096) as raw:
        await raw.send(handshake(sub))
        await raw.read_until(b"\r\n\r\n")
        assert (await raw.read_message())["op"] == "welcome"
        yield raw


async def events_of(raw: Raw, number: int) -> list[str]:
    """The ids of the next events, everything else passed over but a gap."""
    found: list[str] = []
    while len(found) < number:
        message = await raw.read_message(10)
        assert message["op"] not in ("gap", "error", "close"), message
        if message["op"] == "event":
            found.append(message["event"]["id"])
    return found


def narrow(gateway: Gateway) -> None:
    """Leave the one client's socket no room, as a slow network does: nearly every write waits."""
    assert gateway.replica is not None
    (session,) = gateway.replica.connections
    transport = session._sink.transport  # type: ignore[attr-defined]  # the socket is what the test is about
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def paused(gateway: Gateway) -> bool:
    assert gateway.replica is not None
    return any(not connection.writable for connection in gateway.replica.connections)


async def test_a_live_client_that_stops_reading_while_the_log_turns_over_gets_everything(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    async with running_gateway(fresh_nats.url, **SMALL) as gateway, slow_socket(gateway, buyer) as slow:
        await slow.send_message(op="subscribe", channel=f"buyer:{buyer}")
        assert [(await slow.read_message())["op"] for _ in range(2)] == ["subscribed", "live"]
        documents = await market.orders(300, buyer=buyer, padding=50 * KIB)
        await until(lambda: paused(gateway), what="the client is paused")
        more = await market.orders(100, buyer=buyer, padding=50 * KIB)
        assert await events_of(slow, 400) == [one["id"] for one in documents + more]


async def test_a_replaying_client_that_stops_reading_while_the_log_turns_over_gets_everything(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    documents = await market.orders(200, buyer=buyer, padding=50 * KIB)
    async with running_gateway(fresh_nats.url, **SMALL) as gateway, slow_socket(gateway, buyer) as slow:
        await slow.send_message(op="subscribe", channel=f"buyer:{buyer}", cursor="earliest")
        await until(lambda: paused(gateway), what="the client is paused")
        documents += await market.orders(100, buyer=buyer, padding=50 * KIB)
        assert await events_of(slow, 300) == [one["id"] for one in documents]
        documents = await market.orders(3, buyer=buyer)
        assert await events_of(slow, 3) == [one["id"] for one in documents]


async def test_a_client_that_reads_slowly_but_steadily_is_not_taken_for_silent(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    documents = await market.orders(200, buyer=buyer, padding=50 * KIB)
    async with (
        running_gateway(fresh_nats.url, **SMALL, idle_s=0.5, heartbeat_s=0.2) as gateway,
        slow_socket(gateway, buyer) as slow,
    ):
        narrow(gateway)
        await slow.send_message(op="subscribe", channel=f"buyer:{buyer}", cursor="earliest")
        seen: list[str] = []
        while len(seen) < len(documents):
            seen += await events_of(slow, 10)
            await slow.send(frame(b"", opcode=10))  # a pong: it is alive
            await asyncio.sleep(0.04)
        assert seen == [one["id"] for one in documents]


async def test_a_client_that_takes_nothing_is_closed_and_others_notice_nothing(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    async with (
        running_gateway(fresh_nats.url, **SMALL, stall_s=0.5) as gateway,
        gateway.websocket(buyer) as quick,
        slow_socket(gateway, buyer) as slow,
        connected(gateway.url, receive_bytes=4096, limit=4096) as slow_stream,
    ):
        await quick.subscribe(f"buyer:{buyer}")
        await slow.send_message(op="subscribe", channel=f"buyer:{buyer}")
        await slow_stream.send(request(f"/v1/events?channel=buyer:{buyer}", buyer))
        await slow_stream.read_until(b"event: live")
        documents = await market.orders(400, buyer=buyer, padding=50 * KIB)
        assert [(await quick.read())["event"]["id"] for _ in documents] == [one["id"] for one in documents]
        replica = gateway.replica
        assert replica is not None
        await until(lambda: replica.tally.closed == {"too_slow": 2}, what="both are given up")
        assert len(replica.connections) == 1
        seen = []
        while (message := await slow.read_message())["op"] != "close":
            seen.append(message)
        assert message["code"] == 4102
        seen = [found["event"]["id"] for found in seen if found["op"] == "event"]
        assert seen == [one["id"] for one in documents][: len(seen)]
        documents = await market.orders(1, buyer=buyer)
        assert (await quick.read())["event"]["id"] == documents[0]["id"]


async def test_a_slow_event_stream_gets_everything_and_its_replay_waits_for_it(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    documents = await market.orders(120, buyer=buyer, padding=200 * KIB)
    async with (
        running_gateway(fresh_nats.url, **SMALL) as gateway,
        connected(gateway.url, receive_bytes=4096, limit=2**26) as slow,
    ):
        await slow.send(request(f"/v1/events?channel=buyer:{buyer}&cursor=earliest", buyer))
        await until(lambda: paused(gateway), what="the client is paused")
        replica = gateway.replica
        assert replica is not None
        await market.orders(5)
        # The kernel's buffers may still take a few; what is published meanwhile changes nothing.
        assert replica.tally.deliveries < len(documents) / 2
        found = await slow.read_until(b"event: live", 20)
        assert [one["id"] for one in documents] == [
            block.partition(b'"id": "')[2][:36].decode() for block in found.split(b"\n\n") if b"ORDER_CREATED" in block
        ]
