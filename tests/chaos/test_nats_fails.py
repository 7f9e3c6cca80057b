"""NATS is killed, frozen, emptied and robbed of consumers: what was acknowledged is seen once, by clients that stay."""

import asyncio
import os
import shutil
import signal
import time

import pytest

from services.chassis import jetstream
from services.gateway.bus import feed
from services.local.embedded import EmbeddedNats
from tests.harness.gateway import Gateway, is_ready, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.waiting import until
from tests.harness.witness import Stress, Witness, stress, witnesses

pytestmark = pytest.mark.chaos


async def all_saw(load: Stress, seen_by: tuple[Witness, ...]) -> None:
    await load.stop()
    for witness in seen_by:
        await witness.saw(load.acknowledged[load.acknowledged.index(witness.seen[0]) :])
        assert witness.connects == 1


async def readiness(gateway: Gateway) -> int:
    async with gateway.http as client:
        return (await client.get("/readyz")).status_code


async def test_nats_killed_and_back_on_the_same_port_under_load(nats: EmbeddedNats, market: Marketplace) -> None:
    async with (
        running_gateway(nats.url) as gateway,
        stress(market, "b1") as load,
        witnesses("b1", lambda: gateway) as seen_by,
    ):
        await load.more(50)
        await asyncio.to_thread(nats.kill)

        async def unready() -> bool:
            return await readiness(gateway) == 503

        await until(unready, what="the gateway is not ready without NATS")
        await asyncio.to_thread(nats.start)
        await load.more(100)
        await is_ready(gateway)
        await all_saw(load, seen_by)


async def test_consumers_deleted_under_the_feed(nats: EmbeddedNats, market: Marketplace) -> None:
    async def feeds() -> list[str]:
        names: list[str] | None = (await jetstream.request(market.client, "CONSUMER.NAMES.MARKET"))["consumers"]
        return [name for name in names or () if name.startswith("gw_")]

    async with (
        running_gateway(nats.url) as gateway,
        stress(market, "b1") as load,
        witnesses("b1", lambda: gateway) as seen_by,
    ):
        await load.more(20)
        for _ in range(2):
            names = await until(feeds, what="the feed has a consumer")
            for name in names:
                await jetstream.request(market.client, f"CONSUMER.DELETE.MARKET.{name}")

            async def replaced(gone: frozenset[str] = frozenset(names)) -> bool:
                return bool(set(await feeds()) - gone)

            await until(replaced, what="the feed has another consumer")
        await load.more(20)
        await all_saw(load, seen_by)


async def test_nats_frozen_for_four_seconds(nats: EmbeddedNats, market: Marketplace) -> None:
    async with (
        running_gateway(nats.url) as gateway,
        stress(market, "b1") as load,
        witnesses("b1", lambda: gateway) as seen_by,
    ):
        await load.more(20)
        assert nats.process is not None
        os.kill(nats.process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(4)  # the length of the freeze is what is tested
        finally:
            os.kill(nats.process.pid, signal.SIGCONT)
        await load.more(20)
        await all_saw(load, seen_by)


async def test_a_blocked_loop_loses_nothing(nats: EmbeddedNats, market: Marketplace) -> None:
    async with (
        running_gateway(nats.url) as gateway,
        stress(market, "b1") as load,
        witnesses("b1", lambda: gateway) as seen_by,
    ):
        await load.more(20)
        time.sleep(feed.HEARTBEAT_SECONDS * 3)  # nothing runs in this process meanwhile
        await load.more(20)
        await all_saw(load, seen_by)


async def test_a_burst_that_fills_every_buffer_arrives_whole(nats: EmbeddedNats, market: Marketplace) -> None:
    async with running_gateway(nats.url, log_bytes=1024**2) as gateway, witnesses("b1", lambda: gateway) as seen_by:
        documents = await market.orders(12_000, buyer="b1")
        for witness in seen_by:
            await witness.saw([one["id"] for one in documents], 30)


async def test_a_stream_restored_with_fewer_messages_is_told_as_ahead(nats: EmbeddedNats, market: Marketplace) -> None:
    documents = await market.orders(20, buyer="b1")
    await asyncio.to_thread(nats.stop)
    backup = nats.folder.with_name("backup")
    shutil.copytree(nats.folder / "jetstream", backup)
    await asyncio.to_thread(nats.start)
    await until(lambda: market.client.is_connected)
    async with running_gateway(nats.url) as gateway, gateway.websocket("b1") as socket:
        await socket.subscribe("buyer:b1")
        async with gateway.events("channel=buyer:b1", "b1") as blocks, gateway.websocket("b1") as strict:
            await blocks.read_until("live")
            await strict.subscribe("buyer:b1", on_gap="refuse")
            documents = await market.orders(5, buyer="b1")
            assert [(await socket.read())["event"]["id"] for _ in documents] == [one["id"] for one in documents]
            await asyncio.to_thread(nats.kill)
            shutil.rmtree(nats.folder / "jetstream")
            shutil.copytree(backup, nats.folder / "jetstream")
            await asyncio.to_thread(nats.start)
            gap = await socket.read(15)
            assert (gap["op"], gap["reason"]) == ("gap", "ahead")
            assert (gap["from"].rpartition(".")[2], gap["to"].rpartition(".")[2]) == ("25", "20")
            (document,) = await market.orders(1, buyer="b1")
            assert (await socket.read())["event"]["id"] == document["id"]
            told = await blocks.read_until("gap")
            assert told[-1]["id"] == gap["to"]
            assert (await blocks.read())["id"].endswith(".21")
            while (message := await strict.read())["op"] == "event":
                pass
            assert message["error"]["code"] == "cursor_ahead"
            assert await strict.closed() == 4203


async def test_history_waits_for_nats_and_says_so_in_time(nats: EmbeddedNats, market: Marketplace) -> None:
    await market.orders(5, buyer="b1")
    async with running_gateway(nats.url, log_warm_events=0) as gateway, gateway.websocket("b1") as socket:
        await asyncio.to_thread(nats.kill)
        await socket.send(op="subscribe", id=1, channel="buyer:b1", cursor="earliest")
        await socket.send(op="subscribe", id=2, channel="plan:p1", cursor="earliest")
        assert (await socket.read())["id"] == 2  # what needs no reading is answered at once
        assert (await socket.read())["op"] == "live"
        answer = await socket.read(8)
        assert (answer["id"], answer["error"]["code"]) == (1, "replay_unavailable")
        await socket.send(op="subscribe", id=3, channel="buyer:b1", cursor="earliest")
        await asyncio.to_thread(nats.start)
        messages = await socket.read_until("live")
        assert [message["op"] for message in messages] == ["subscribed", *["event"] * 5, "live"]
