"""What cannot be had is named by its code, on every transport; a stream that changes under a live client is told."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.bus import feed
from services.local.embedded import EmbeddedNats
from services.relay.newepoch import declare_epoch
from tests.harness.events import event, fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLD: dict[str, Any] = {"log_bytes": 1024**2, "log_warm_events": 0}
BUYER = "b1"
CHANNEL = f"buyer:{BUYER}"


async def over_websocket(gateway: Gateway, **start: Any) -> list[dict[str, Any]]:
    async with gateway.websocket(BUYER) as socket:
        await socket.send(op="subscribe", id=1, channel=CHANNEL, **start)
        first = await socket.read()
        return [first] if first["op"] == "error" else [first, *await socket.read_until("live")]


async def refused(gateway: Gateway, cursor: str) -> tuple[str, Any]:
    """The code that WebSocket and SSE tell with `on_gap=refuse`, and SSE's status; the details are the same."""
    (answer,) = await over_websocket(gateway, cursor=cursor, on_gap="refuse")
    async with gateway.http as client:
        page = await client.get(
            f"/v1/events?channel={CHANNEL}&cursor={cursor}&on_gap=refuse", headers=bearer(BUYER, "buyer")
        )
    assert page.json()["code"] == answer["error"]["code"]
    assert page.json().get("details") == answer["error"].get("details")
    if "details" in answer["error"]:
        assert answer["error"]["details"]["from"] == cursor
    return answer["error"]["code"], page.status_code


async def named(gateway: Gateway, cursor: str) -> tuple[str, str, list[str]]:
    """Reason, end and what follows of a gap; the same on WebSocket, SSE and history."""
    subscribed, gap, *rest = await over_websocket(gateway, cursor=cursor)
    assert (gap["op"], gap["from"], gap["channel"]) == ("gap", cursor, CHANNEL)
    assert subscribed["cursor"] == gap["to"]
    events = [message["event"]["id"] for message in rest[:-1]]
    async with gateway.events(f"channel={CHANNEL}&cursor={cursor}", BUYER) as blocks:
        _, block, *rest_of_blocks = await blocks.read_until("live")
        assert (block["event"], block["id"]) == ("gap", gap["to"])
        assert json.loads(block["data"]) == {"reason": gap["reason"], "from": cursor, "to": gap["to"]}
        assert [json.loads(one["data"])["id"] for one in rest_of_blocks[:-1]] == events
    async with gateway.http as client:
        answer = await client.get(
            f"/v1/channels/{CHANNEL}/events", params={"after": cursor}, headers=bearer(BUYER, "buyer")
        )
        assert answer.json()["gap"] == {"reason": gap["reason"], "from": cursor, "to": gap["to"]}
        assert [one["event"]["id"] for one in answer.json()["events"]] == events
    return gap["reason"], gap["to"], events


@pytest.mark.parametrize("warm", [0, 10_000])
async def test_a_cursor_that_was_trimmed_is_expired(market: Marketplace, fresh_nats: EmbeddedNats, warm: int) -> None:
    documents = await market.orders(20, buyer=BUYER)
    await market.purge(keep=5)
    async with running_gateway(fresh_nats.url, log_warm_events=warm) as gateway:
        cursor = await market.cursor(3)
        kept = [one["id"] for one in documents[-5:]]
        assert await named(gateway, cursor) == ("expired", await market.cursor(15), kept)
        assert await refused(gateway, cursor) == ("cursor_expired", 410)
        ops = [message["op"] for message in await over_websocket(gateway, cursor=await market.cursor(15))]
        assert ops == ["subscribed", *["event"] * 5, "live"]
        assert [one["op"] for one in await over_websocket(gateway, cursor="earliest")] == ops
        told = await over_websocket(gateway, since="2020-01-01T00:00:00Z")
        assert [one["op"] for one in told] == ["subscribed", "gap", *["event"] * 5, "live"]
        assert told[1]["reason"] == "expired"


async def test_a_stream_purged_to_the_end_expires_cursors_and_goes_on(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    await market.orders(20, buyer=BUYER)
    cursor, end = await market.cursor(3), await market.cursor()
    await market.purge()
    async with running_gateway(fresh_nats.url) as gateway:
        assert await named(gateway, cursor) == ("expired", end, [])
        assert [one["op"] for one in await over_websocket(gateway, cursor=end)] == ["subscribed", "live"]
        assert [one["op"] for one in await over_websocket(gateway, cursor="earliest")] == ["subscribed", "live"]


async def test_a_cursor_of_an_earlier_life_is_recreated_and_one_beyond_the_end_is_ahead(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    await market.orders(20, buyer=BUYER)
    old = await market.cursor(3)
    await market.remake()
    documents = await market.orders(4, buyer=BUYER)
    ids = [one["id"] for one in documents]
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        assert await named(gateway, old) == ("recreated", await market.cursor(0), ids)
        assert await refused(gateway, old) == ("cursor_recreated", 410)
        for beyond in (5, 2**64 - 1):
            assert await named(gateway, await market.cursor(beyond)) == ("ahead", await market.cursor(), [])
            assert await refused(gateway, await market.cursor(beyond)) == ("cursor_ahead", 409)


async def test_cursors_that_are_none_are_invalid_and_newer_ones_unavailable(gateway: Gateway) -> None:
    future = "MARKET.zzzzzzzzz.1"
    for cursor in ("x", "", "MARKET", "MARKET.0mi7c3k9.-1", "PLANS.0mi7c3k9.1", f"MARKET.0mi7c3k9.{2**64}"):
        (answer,) = await over_websocket(gateway, cursor=cursor)
        assert answer["error"]["code"] == "invalid_cursor", cursor
        async with gateway.http as client:
            for path in (f"/v1/events?channel={CHANNEL}&cursor=", f"/v1/channels/{CHANNEL}/events?after="):
                page = await client.get(path + cursor, headers=bearer(BUYER, "buyer"))
                assert (page.status_code, page.json()["code"]) == (400, "invalid_cursor")
    (answer,) = await over_websocket(gateway, cursor=future)
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("replay_unavailable", True)
    async with gateway.events(f"channel={CHANNEL}&cursor={future}", BUYER) as blocks:
        told = (await blocks.read_until("problem"))[-1]
        assert json.loads(told["data"])["code"] == "replay_unavailable"
    async with gateway.http as client:
        page = await client.get(f"/v1/channels/{CHANNEL}/events?after={future}", headers=bearer(BUYER, "buyer"))
        assert (page.status_code, page.headers["retry-after"]) == (503, "1")


async def test_a_stream_made_again_under_live_clients_is_told_to_each(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    await market.orders(3, buyer=BUYER)
    end = await market.cursor()
    async with (
        running_gateway(fresh_nats.url) as gateway,
        gateway.websocket(BUYER) as notified,
        gateway.websocket(BUYER) as refusing,
        gateway.websocket(BUYER) as planning,
        gateway.events(f"channel={CHANNEL}", BUYER) as stream,
        gateway.events(f"channel={CHANNEL}&on_gap=refuse", BUYER) as strict,
    ):
        await notified.subscribe(CHANNEL)
        await refusing.subscribe(CHANNEL, on_gap="refuse")
        await planning.subscribe("plan:p1")
        for blocks in (stream, strict):
            await blocks.read_until("live")
        await market.remake()
        documents = await market.orders(2, buyer=BUYER)
        gap = await notified.read()
        start = await market.cursor(0)
        assert (gap["op"], gap["reason"], gap["from"], gap["to"]) == ("gap", "recreated", end, start)
        assert [(await notified.read())["event"]["id"] for _ in range(2)] == [one["id"] for one in documents]
        assert (await refusing.read())["error"]["code"] == "cursor_recreated"
        assert await refusing.closed() == 4203
        block = await stream.read()
        assert (block["event"], block["id"]) == ("gap", start)
        assert [json.loads((await stream.read())["data"])["id"] for _ in range(2)] == [one["id"] for one in documents]
        told = (await strict.read_until("problem"))[-1]
        assert json.loads(told["data"])["code"] == "cursor_recreated"
        assert await strict.read() == {}
        await market.plan(BUYER, "p1")
        assert (await planning.read())["op"] == "event"
        assert (await notified.ask(op="heartbeat"))["cursors"] == {"MARKET": await market.cursor(2)}


async def test_a_stream_that_is_deleted_is_made_again_by_the_gateway(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    async with running_gateway(fresh_nats.url) as gateway, gateway.websocket(BUYER) as socket:
        await socket.subscribe(CHANNEL)
        await market.jetstream.delete_stream("MARKET")
        assert (await socket.read())["reason"] == "recreated"
        (document,) = await market.orders(1, buyer=BUYER)
        assert (await socket.read())["event"]["id"] == document["id"]


async def test_a_purge_under_live_clients_loses_nothing_that_is_stored(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    async with running_gateway(fresh_nats.url) as gateway, gateway.websocket(BUYER) as socket:
        await socket.subscribe(CHANNEL)
        before = await market.orders(10, buyer=BUYER)
        assert [(await socket.read())["event"]["id"] for _ in before] == [one["id"] for one in before]
        await market.purge()
        after = await market.orders(10, buyer=BUYER)
        assert [(await socket.read())["event"]["id"] for _ in after] == [one["id"] for one in after]
        async with gateway.events("channel=admin:market&cursor=earliest", "root", "admin") as blocks:
            found = (await blocks.read_until("live"))[1:-1]
            assert len(found) in (10, 20)  # what the log still has may be served


async def test_what_ages_out_while_a_client_is_away_is_an_expired_gap_and_a_live_one_notices_nothing(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    async with running_gateway(fresh_nats.url) as gateway, gateway.websocket(BUYER) as socket:
        await socket.subscribe("plan:p1")
        for _ in range(3):
            await market.plan(BUYER, "p1")
        seen = [await socket.read() for _ in range(3)]
        config = (await market.jetstream.stream_info("PLANS")).config
        config.max_age = 0.2
        config.duplicate_window = 0.1
        await market.jetstream.update_stream(config)

        async def aged() -> bool:
            return (await market.state("PLANS")).messages == 0

        await until(aged, what="the plan's events have aged out")
        await market.plan(BUYER, "p1")
        assert (await socket.read())["op"] == "event"
    async with running_gateway(fresh_nats.url, log_warm_events=0) as gateway, gateway.websocket(BUYER) as socket:
        await until(aged)
        messages = await socket.subscribe("plan:p1", cursor=seen[0]["cursor"])
        assert [message["op"] for message in messages] == ["subscribed", "gap", "live"]
        assert messages[1]["reason"] == "expired"
        assert messages[1]["to"] == await market.cursor(4, "PLANS")


async def test_a_replay_that_is_overtaken_by_a_trim_names_the_gap_in_band(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    documents = await market.orders(900, buyer=BUYER, padding=2000)
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        assert gateway.replica is not None
        stream = gateway.replica.streams["MARKET"]
        asked = stream.archive.ask

        def trimmed_first(need: Any, done: Any, is_wanted: Any) -> None:
            """Answer only once the stream was trimmed, from the second page on."""
            import asyncio

            async def later() -> None:
                if getattr(need, "after", 0) >= 300:
                    await market.purge(keep=100)
                asked(need, done, is_wanted)

            tasks.append(asyncio.get_running_loop().create_task(later()))

        tasks: list[Any] = []
        stream.archive.ask = trimmed_first  # type: ignore[method-assign]
        messages = await over_websocket(gateway, cursor="earliest")
        ops = [message["op"] for message in messages]
        assert ops.count("gap") == 1
        at = ops.index("gap")
        gap = messages[at]
        assert gap["reason"] == "expired"
        assert gap["from"] == messages[at - 1]["cursor"]
        assert gap["to"] == await market.cursor(800)
        seen = [message["event"]["id"] for message in messages if message["op"] == "event"]
        assert seen == [one["id"] for one in documents[: at - 1]] + [one["id"] for one in documents[800:]]
        await market.publish(event("ORDER_CREATED", buyer=fresh("other")))


async def test_a_new_epoch_that_is_declared_under_live_clients_is_told_to_them(
    market: Marketplace, fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_LOOK_SECONDS", 0.5)
    await market.orders(5, buyer=BUYER)
    before = await market.cursor()
    async with running_gateway(fresh_nats.url, **COLD) as gateway, gateway.websocket(BUYER) as socket:
        await socket.subscribe(CHANNEL)
        await asyncio.sleep(0.002)  # an epoch counts milliseconds
        await declare_epoch(market.client, "MARKET")
        gap = await socket.read(10)
        assert (gap["op"], gap["reason"], gap["from"]) == ("gap", "recreated", before)
        assert gap["to"] == await market.cursor(0)
        assert [(await socket.read())["cursor"] for _ in range(5)] == [await market.cursor(n) for n in range(1, 6)]
        assert (await named(gateway, before))[:2] == ("recreated", await market.cursor(0))
        ops = [message["op"] for message in await over_websocket(gateway, cursor=await market.cursor(3))]
        assert ops == ["subscribed", "event", "event", "live"]


async def test_since_in_a_stream_that_was_trimmed_to_its_end_is_expired_only_where_something_may_be_missing(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    await market.orders(5, buyer=BUYER)
    await asyncio.sleep(0.002)
    now = datetime.now(UTC).isoformat()
    await market.purge()
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        told = await over_websocket(gateway, since="2020-01-01T00:00:00Z")
        assert [one["op"] for one in told] == ["subscribed", "gap", "live"]
        assert (told[1]["reason"], told[1]["to"]) == ("expired", await market.cursor(5))
        assert [one["op"] for one in await over_websocket(gateway, since=now)] == ["subscribed", "live"]
