"""Replay from below the log: what JetStream holds and the gateway does not comes complete, in order, once."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.chassis import jetstream
from services.gateway.core import connection, replay
from services.local.embedded import EmbeddedNats
from tests.harness.events import deal, event, fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLD: dict[str, Any] = {"log_bytes": 1024**2, "log_warm_events": 0}


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return [message["event"]["id"] for message in messages if message["op"] == "event"]


def wanted(documents: list[dict[str, Any]]) -> list[str]:
    return [document["id"] for document in documents]


async def over_sse(gateway: Gateway, query: str, sub: str = "root", role: str = "admin") -> list[str]:
    async with gateway.events(query, sub, role) as blocks:
        return [json.loads(block["data"])["id"] for block in (await blocks.read_until("live"))[1:-1]]


async def over_history(gateway: Gateway, channel: str, sub: str, role: str, **query: Any) -> list[str]:
    from tests.harness.tokens import bearer

    found: list[str] = []
    async with gateway.http as client:
        while True:
            answer = await client.get(f"/v1/channels/{channel}/events", params=query, headers=bearer(sub, role))
            page = answer.json()
            assert answer.status_code == 200, page
            found += [item["event"]["id"] for item in page["events"]]
            if page["live"]:
                return found
            query = {**query, "after": page["cursor"]}
            query.pop("since", None)


async def test_every_start_reads_what_was_stored_before_the_gateway_began(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    early = await market.orders(700, buyer=buyer)
    moment = datetime.now(UTC).isoformat()
    late = await market.orders(600, buyer=buyer)
    async with running_gateway(fresh_nats.url, **COLD) as gateway, gateway.websocket(buyer) as socket:
        assert gateway.replica is not None
        assert gateway.replica.streams["MARKET"].log.low == 1300
        cursor = await market.cursor(650)
        for start, expected in (
            ({"cursor": "earliest"}, early + late),
            ({"cursor": cursor}, early[650:] + late),
            ({"since": moment}, late),
            ({"last": 7}, late[-7:]),
            ({"last": 1000}, (early + late)[-1000:]),
            ({}, []),
        ):
            messages = await socket.subscribe(f"buyer:{buyer}", **start)
            assert ids(messages) == wanted(expected), start
            assert messages[-1]["replayed"] == len(expected)
            await socket.ask(op="unsubscribe", channel=f"buyer:{buyer}")
        channel = f"channel=buyer:{buyer}"
        assert await over_sse(gateway, f"{channel}&cursor=earliest", buyer, "buyer") == wanted(early + late)
        assert await over_sse(gateway, f"{channel}&last=3", buyer, "buyer") == wanted(late[-3:])
        assert await over_sse(gateway, f"{channel}&cursor={cursor}", buyer, "buyer") == wanted(early[650:] + late)
        at = moment.replace("+", "%2B")
        assert await over_sse(gateway, f"{channel}&since={at}", buyer, "buyer") == wanted(late)
        assert await over_history(gateway, f"buyer:{buyer}", buyer, "buyer") == wanted(early + late)
        assert await over_history(gateway, f"buyer:{buyer}", buyer, "buyer", since=moment, limit=137) == wanted(late)


async def test_clients_far_behind_are_served_by_filtered_reads_of_the_mirror(
    market: Marketplace, fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SHARED_PAGES_DISTANCE", 100)
    monkeypatch.setattr(connection, "page_needed", replay.page_needed)
    buyer, node, order = fresh("buyer"), fresh("node"), fresh("order")
    mine: list[dict[str, Any]] = []
    for _ in range(40):
        mine += await market.orders(7, buyer=buyer, node=node, order=order)
        await market.orders(20)
    mine += deal(buyer=buyer, node=node, order=order)
    await market.publish_all(mine[-5:])
    of_order = [one for one in mine if one["type"] in ("ORDER_CREATED", "PAYMENT_SUCCEEDED")]
    await market.orders(150)
    await market.mirrored()
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        async with gateway.websocket(buyer) as socket:
            assert ids(await socket.subscribe(f"buyer:{buyer}", cursor="earliest")) == wanted(mine)
            assert ids(await socket.subscribe(f"order:{order}", cursor="earliest")) == wanted(of_order)
        async with gateway.websocket("root", "admin") as socket:
            assert ids(await socket.subscribe(f"order:{order}", cursor="earliest")) == wanted(of_order)
            assert len(ids(await socket.subscribe("admin:market", cursor="earliest"))) == 40 * 27 + 155
        both = f"channel=buyer:{buyer}&channel=order:{order}&cursor=earliest"
        assert await over_sse(gateway, both, buyer, "buyer") == wanted(mine)
        assert await over_history(gateway, f"node:{node}", node, "node") == wanted(
            [one for one in mine if one["type"] != "INTENT_CREATED"]
        )
        assert await over_sse(gateway, f"channel=order:{order}&last=4") == wanted(of_order[-4:])


async def test_large_events_come_complete_over_all_pages(
    market: Marketplace, fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = fresh("buyer")
    documents = await market.orders(40, buyer=buyer, padding=255 * 1024)
    await market.mirrored()
    async with running_gateway(fresh_nats.url, **COLD, write_high_bytes=16 * 1024) as gateway:
        async with gateway.websocket(buyer) as socket:
            assert ids(await socket.subscribe(f"buyer:{buyer}", cursor="earliest")) == wanted(documents)
        assert await over_sse(gateway, f"channel=buyer:{buyer}&cursor=earliest", buyer, "buyer") == wanted(documents)
        assert await over_sse(gateway, f"channel=buyer:{buyer}&last=9", buyer, "buyer") == wanted(documents[-9:])
    monkeypatch.setattr(replay, "SHARED_PAGES_DISTANCE", 10)
    async with running_gateway(fresh_nats.url, **COLD) as gateway, gateway.websocket(buyer) as socket:
        assert ids(await socket.subscribe(f"buyer:{buyer}", cursor="earliest")) == wanted(documents)


async def test_what_is_no_event_is_passed_by_cursors_and_never_sent(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    buyer = fresh("buyer")
    subject = f"market.i1.{buyer}.n1.order.o1"

    async def store() -> list[str]:
        good = []
        for payload in (
            b"{not json",
            b"",
            b"[1,2]",
            b'"text"',
            b'{"data":"\xff\xfe"}',
            b'{"id":"\xed\xa0\x80"}',
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b"x" * (256 * 1024 + 1),
            b'{"type":"PRETTY",\r\n  "id": "one",\n "data": {\n"x": "\\n"} }\n',
            b'{"id":"two"}',
            b'{"type":7,"id":"three"}',
            b'{"type":"error","id":"four"}',
            b'{"type":"A\\nB","id":"five"}',
            '{"type":"Größe\u2028","id":"six"}'.encode(),
        ):
            await market.raw(subject, payload)
            if b'"id":' in payload.replace(b" ", b"") and b"\xed" not in payload:
                good.append(json.loads(payload)["id"])
        for bad in (
            "market.i1",
            f"market.i1.{buyer}.n1.order.o1.more",
            f"market.i1.{buyer}.-x.order.o1",
            "market.é.b.n.o.p",
        ):
            await market.raw(bad, b'{"id":"never"}')
        return good

    stored = await store()
    assert stored == ["one", "two", "three", "four", "five", "six"]
    async with running_gateway(fresh_nats.url, **COLD) as gateway, gateway.websocket(buyer) as socket:
        messages = await socket.subscribe(f"buyer:{buyer}", cursor="earliest")
        assert ids(messages) == stored
        assert messages[-1]["cursor"] == await market.cursor()
        async with gateway.events(f"channel=buyer:{buyer}&cursor=earliest", buyer) as blocks:
            replayed = (await blocks.read_until("live"))[1:-1]
            assert [block.get("event") for block in replayed] == ["PRETTY", None, None, None, None, "Größe\u2028"]
            assert json.loads(replayed[0]["data"])["data"] == {"x": "\n"}
            await store()
            live = [await blocks.read() for _ in stored]
            assert [json.loads(block["data"])["id"] for block in live] == stored
        assert [(await socket.read())["event"]["id"] for _ in stored] == stored
        last = await market.cursor()
        assert (await socket.ask(op="heartbeat"))["cursors"] == {"MARKET": last}


async def test_messages_deleted_in_the_middle_are_no_gap(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    buyer = fresh("buyer")
    documents = await market.orders(1200, buyer=buyer)
    await market.delete(*range(400, 420), 513, 1024, 1200)
    left = [
        document
        for sequence, document in enumerate(documents, 1)
        if sequence not in {*range(400, 420), 513, 1024, 1200}
    ]
    async with running_gateway(fresh_nats.url, **COLD) as gateway, gateway.websocket(buyer) as socket:
        messages = await socket.subscribe(f"buyer:{buyer}", cursor="earliest")
        assert ids(messages) == wanted(left)
        assert not [message for message in messages if message["op"] == "gap"]
        assert messages[-1]["cursor"].endswith(".1200")


async def test_type_filters_hold_below_the_log_and_above_it(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    buyer = fresh("buyer")
    documents = [one for _ in range(30) for one in deal(buyer=buyer)]
    await market.publish_all(documents)
    await market.mirrored()
    payments = [one for one in documents if one["type"] == "PAYMENT_SUCCEEDED"]
    chosen = [one for one in documents if one["type"] in ("PAYMENT_SUCCEEDED", "QUOTE_RECEIVED")]
    async with running_gateway(fresh_nats.url, **COLD) as gateway, gateway.websocket(buyer) as socket:
        messages = await socket.subscribe(f"buyer:{buyer}", last=3, types=["PAYMENT_SUCCEEDED"])
        assert ids(messages) == wanted(payments[-3:])
        more = deal(buyer=buyer)
        await market.publish_all(more)
        assert (await socket.read())["event"] == more[-1]
        await socket.ask(op="unsubscribe", channel=f"buyer:{buyer}")
        query = f"channel=buyer:{buyer}&cursor=earliest&type=PAYMENT_SUCCEEDED&type=QUOTE_RECEIVED"
        expected = wanted(chosen) + wanted([one for one in more if one in (more[1], more[4])])
        assert await over_sse(gateway, query, buyer, "buyer") == expected
        messages = await socket.subscribe(f"buyer:{buyer}", cursor="earliest", types=["NOTHING"])
        assert [message["op"] for message in messages] == ["subscribed", "live"]


async def test_since_outside_of_all_times_is_answered(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    documents = await market.orders(5, buyer="b1")
    future = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        for channel in ("buyer:b1", "plan:p1"):
            async with gateway.websocket("b1") as socket:
                for since in (
                    "0001-01-01T00:00:00Z",
                    "0001-01-01T00:00:00+23:59",
                    "1970-01-01T00:00:00Z",
                    future,
                    "9999-12-31T23:59:59.999999-23:59",
                ):
                    messages = await socket.subscribe(channel, since=since)
                    expected = [] if channel == "plan:p1" or since >= future else wanted(documents)
                    assert ids(messages) == expected, since
                    await socket.ask(op="unsubscribe", channel=channel)
        more = await market.orders(1, buyer="b1")
        async with gateway.websocket("b1") as socket:
            assert ids(await socket.subscribe("buyer:b1", last=1)) == wanted(more)


async def test_many_clients_that_come_at_once_share_the_reads(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    documents = await market.orders(1500, buyer="b1")
    async with running_gateway(fresh_nats.url, **COLD) as gateway:

        async def replayed() -> list[str]:
            async with gateway.websocket("b1") as socket:
                return ids(await socket.subscribe("buyer:b1", cursor="earliest"))

        for seen in await asyncio.gather(*(replayed() for _ in range(30))):
            assert seen == wanted(documents)
        assert gateway.replica is not None
        await until(lambda: gateway.replica is not None and not gateway.replica.connections)


async def test_a_last_that_would_scan_too_far_is_refused_for_good(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    await market.publish(event("ORDER_CREATED", buyer="rare"))
    await market.orders(1500)
    await market.mirrored()
    async with running_gateway(fresh_nats.url, **COLD, replay_scan_limit=1000) as gateway:
        async with gateway.websocket("rare") as socket:
            answer = await socket.ask(op="subscribe", channel="buyer:rare", last=1)
            assert (answer["error"]["code"], answer["error"]["retryable"]) == ("replay_unavailable", False)
        async with gateway.websocket("rare") as socket:
            assert len(ids(await socket.subscribe("buyer:rare", cursor="earliest"))) == 1
        async with gateway.events("channel=buyer:rare&last=1", "rare") as blocks:
            # A stream that ended with a problem would be asked for again by every EventSource, for ever.
            assert blocks.answer.status_code == 503
            refusal = json.loads(await blocks.answer.aread())
            assert (refusal["code"], refusal["retryable"]) == ("replay_unavailable", False)


async def test_a_cursor_newer_than_a_read_under_way_is_not_taken_for_ahead(
    market: Marketplace, fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await market.orders(1, buyer="b1")
    old = await market.cursor(0)
    read = jetstream.state
    answered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(client: Any, stream: str, **more: Any) -> jetstream.StreamState:
        """The answer is here, and the loop busy with other things."""
        found = await read(client, stream, **more)
        answered.set()
        await go_on.wait()
        return found

    async with (
        running_gateway(fresh_nats.url, **COLD) as gateway,
        gateway.websocket("b1") as one,
        gateway.websocket("b1") as two,
    ):
        assert gateway.replica is not None
        stream = gateway.replica.streams["MARKET"]
        monkeypatch.setattr(jetstream, "state", slow)
        await one.send(op="subscribe", channel="buyer:b1", cursor=old)
        await answered.wait()
        monkeypatch.setattr(stream, "append", lambda batch, high: None)  # a feed that is behind
        documents = await market.orders(3, buyer="b1")
        newest = f"{old.rpartition('.')[0]}.4"
        await two.send(op="subscribe", channel="buyer:b1", cursor=newest)
        await until(lambda: len(stream.readers) == 2)
        go_on.set()
        assert [(await one.read())["op"] for _ in range(2)] == ["subscribed", "event"]
        answer = await two.read()
        assert (answer["op"], answer["cursor"]) == ("subscribed", newest)
        assert len(documents) == 3
        with pytest.raises(TimeoutError):
            await two.read(0.1)  # neither a gap nor an event that it has
