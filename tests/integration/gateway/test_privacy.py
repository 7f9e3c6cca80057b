"""A principal gets its own events and nothing of anybody else's, on every path there is."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness.events import deal, fresh
from tests.harness.gateway import Gateway
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")


STARTS: list[dict[str, Any]] = [
    {"cursor": "earliest"},
    {"last": 1000},
    {"since": "2020-01-01T00:00:00Z"},
    {},
]


class Deal:
    """One deal of others, and a stranger who knows all its ids."""

    def __init__(self) -> None:
        names = ("intent", "buyer", "node", "negotiation", "order")
        self.ids = {name: fresh(name) for name in names}
        self.plan = fresh("plan")

    @property
    def guesses(self) -> list[str]:
        """Channels that a stranger may subscribe to, and is to find empty."""
        ids = self.ids
        return [
            f"intent:{ids['intent']}",
            f"negotiation:{ids['negotiation']}",
            f"order:{ids['order']}",
            f"plan:{self.plan}",
        ]

    @property
    def forbidden(self) -> list[str]:
        """Channels that are refused by role or id."""
        return [f"buyer:{self.ids['buyer']}", f"node:{self.ids['node']}", "admin:market", "admin:plans"]

    async def happens(self, publisher: Marketplace) -> None:
        await publisher.publish_all(deal(**self.ids))
        await publisher.plan(self.ids["buyer"], self.plan)


@pytest.mark.parametrize("role", ["buyer", "node"])
async def test_a_stranger_who_knows_every_id_sees_nothing_live_or_stored(
    gateway: Gateway, publisher: Marketplace, role: str
) -> None:
    theirs = Deal()
    before = {stream: await publisher.cursor(stream=stream) for stream in ("MARKET", "PLANS")}
    await theirs.happens(publisher)
    starts: list[dict[str, Any] | str] = [*STARTS, "resume"]
    async with gateway.websocket("stranger", role) as socket:
        for channel in theirs.guesses:
            for start in starts:
                if isinstance(start, str):
                    cursor = before["PLANS" if channel.startswith("plan") else "MARKET"]
                    await socket.send(op="resume", id=1, channels={channel: cursor})
                    messages = await socket.read_until("live")
                else:
                    messages = await socket.subscribe(channel, **start)
                assert [message["op"] for message in messages] == ["subscribed", "live"]
                assert messages[-1]["replayed"] == 0
                if start != "resume":
                    await socket.ask(op="unsubscribe", channel=channel)
            await asyncio.sleep(0.12)  # within the rate that a client is allowed
        await theirs.happens(publisher)
        own = await publisher.orders(1, buyer="stranger" if role == "buyer" else "b1", node="stranger")
        await socket.send(op="subscribe", channel=f"{role}:stranger", last=1)
        messages = await socket.read_until("live")
        assert [one["event"]["id"] for one in messages if one["op"] == "event"] == [own[0]["id"]]


@pytest.mark.parametrize("role", ["buyer", "node"])
async def test_a_stranger_sees_nothing_over_sse_and_history(
    gateway: Gateway, publisher: Marketplace, role: str
) -> None:
    theirs = Deal()
    before = {stream: await publisher.cursor(stream=stream) for stream in ("MARKET", "PLANS")}
    await theirs.happens(publisher)
    token = bearer("stranger", role)
    async with gateway.http as client:
        for channel in theirs.guesses:
            cursor = before["PLANS" if channel.startswith("plan") else "MARKET"]
            for query in ("cursor=earliest", "last=1000", "since=2020-01-01T00:00:00Z", f"cursor={cursor}"):
                async with gateway.events(f"channel={channel}&{query}", "stranger", role) as blocks:
                    assert [block.get("event") for block in await blocks.read_until("live")] == [None, "live"]
            async with gateway.events(f"channel={channel}", "stranger", role, {"Last-Event-ID": cursor}) as blocks:
                assert len(await blocks.read_until("live")) == 2
            all_params: list[dict[str, str]] = [
                {},
                {"after": cursor},
                {"since": "2020-01-01T00:00:00Z"},
                {"after": cursor, "wait": "0.05"},
            ]
            for params in all_params:
                answer = await client.get(f"/v1/channels/{channel}/events", params=params, headers=token)
                assert answer.json()["events"] == []
        for channel in theirs.forbidden:
            for path in (f"/v1/channels/{channel}/events", f"/v1/events?channel={channel}"):
                answer = await client.get(path, headers=token)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_long_poll_is_not_woken_by_what_the_poller_may_not_see(
    gateway: Gateway, publisher: Marketplace
) -> None:
    theirs = Deal()
    async with gateway.http as client:
        polls = [
            asyncio.create_task(client.get(f"/v1/channels/{one}/events?wait=1", headers=bearer("stranger", "buyer")))
            for one in theirs.guesses
        ]
        replica = gateway.replica
        assert replica is not None
        await theirs.happens(publisher)
        for poll in polls:
            answer = (await poll).json()
            assert (answer["events"], answer["live"]) == ([], True)


@pytest.mark.parametrize("role", ["buyer", "node", "service"])
async def test_other_channels_are_forbidden_over_websocket(gateway: Gateway, role: str) -> None:
    theirs = Deal()
    async with gateway.websocket("stranger", role) as socket:
        for channel in theirs.forbidden + (theirs.guesses if role == "service" else []):
            answer = await socket.ask(op="subscribe", channel=channel, cursor="earliest")
            assert answer["error"]["code"] == "forbidden"
        if role == "buyer":
            assert (await socket.ask(op="subscribe", channel="market:intents"))["error"]["code"] == "forbidden"
            assert (await socket.ask(op="subscribe", channel="node:stranger"))["error"]["code"] == "forbidden"
        if role == "service":
            assert (await socket.ask(op="subscribe", channel="buyer:stranger"))["error"]["code"] == "forbidden"


WILD = [
    "buyer:*",
    "buyer:>",
    "buyer:.",
    "buyer:b1.>",
    "buyer:-",
    "buyer:-x",
    "buyer:b1|buyer=b2",
    "order:*",
    "order:>",
    "order:o1.payment",
    "order:a b",
    "order:a\nb",
    "order:a\0b",
    "order:é",
    "order:" + "x" * 65,
    "order:",
    ":x",
    "order",
    "order:x:y",
    "plan:*",
    "intent:*.b2",
    "*:*",
]


@pytest.mark.parametrize("channel", WILD)
async def test_a_wild_card_is_no_id(gateway: Gateway, publisher: Marketplace, channel: str) -> None:
    await publisher.orders(1, buyer="b2")
    async with gateway.websocket("b1") as socket:
        answer = await socket.ask(op="subscribe", channel=channel, cursor="earliest")
        assert answer["error"]["code"] == "invalid_channel"
        await socket.send(op="resume", channels={channel: "earliest"})
        assert (await socket.read())["error"]["code"] == "invalid_channel"
    async with gateway.http as client:
        for once in (quote(channel, safe=""), quote(quote(channel, safe=""), safe="")):
            for path in (f"/v1/events?channel={once}&cursor=earliest", f"/v1/channels/{once}/events"):
                answer_ = await client.get(path, headers=bearer("b1", "buyer"))
                assert answer_.json()["code"] in ("invalid_channel", "not_found"), path
        if channel == "order":
            return  # a good id
        answer_ = await client.get(f"/v1/events?plan_id={quote(channel, safe='')}", headers=bearer("b1", "buyer"))
        assert answer_.json()["code"] == "invalid_channel"


async def test_percent_encoding_names_the_same_channel_and_no_other(gateway: Gateway, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    documents = await publisher.orders(2, buyer=buyer)
    encoded = "".join(f"%{byte:02x}" for byte in f"buyer:{buyer}".encode())
    async with gateway.http as client:
        answer = await client.get(f"/v1/channels/{encoded}/events", headers=bearer(buyer, "buyer"))
        assert [one["event"]["id"] for one in answer.json()["events"]] == [one["id"] for one in documents]
        answer = await client.get(f"/v1/channels/{encoded}/events", headers=bearer("stranger", "buyer"))
        assert answer.json()["code"] == "forbidden"


async def test_the_channels_claim_narrows_and_never_widens(gateway: Gateway, publisher: Marketplace) -> None:
    theirs, me = Deal(), fresh("buyer")
    await theirs.happens(publisher)
    claims = {"channels": ["order:*", f"buyer:{me}", f"buyer:{theirs.ids['buyer']}", "admin:market", "*", "*:*"]}
    async with gateway.websocket(me, "buyer", **claims) as socket:
        for channel in [*theirs.forbidden, "plan:p1", "intent:i1"]:
            assert (await socket.ask(op="subscribe", channel=channel))["error"]["code"] == "forbidden"
        for channel in (f"order:{theirs.ids['order']}", f"buyer:{me}"):
            assert [one["op"] for one in await socket.subscribe(channel, last=10)] == ["subscribed", "live"]
    async with gateway.websocket(me, "buyer", channels=[]) as socket:
        assert (await socket.ask(op="subscribe", channel=f"buyer:{me}"))["error"]["code"] == "forbidden"
    async with gateway.websocket("root", "admin", channels=["order:*"]) as socket:
        assert (await socket.ask(op="subscribe", channel="admin:market"))["error"]["code"] == "forbidden"
        assert len(await socket.subscribe(f"order:{theirs.ids['order']}", cursor="earliest")) == 4


async def test_each_party_of_a_deal_sees_its_own_part(gateway: Gateway, publisher: Marketplace) -> None:
    ids = {name: fresh(name) for name in ("intent", "buyer", "order")}
    one, other = fresh("node"), fresh("node")
    events = deal(**ids, node=one)
    events += [
        event
        for event in deal(intent=ids["intent"], buyer=ids["buyer"], node=other)
        if event["type"] != "INTENT_CREATED"
    ]
    await publisher.publish_all(events)

    async def seen(sub: str, role: str, channel: str) -> list[str]:
        async with gateway.websocket(sub, role) as socket:
            messages = await socket.subscribe(channel, cursor="earliest")
            return [message["event"]["id"] for message in messages if message["op"] == "event"]

    intent = f"intent:{ids['intent']}"
    assert await seen(ids["buyer"], "buyer", intent) == [event["id"] for event in events]
    assert await seen(one, "node", intent) == [event["id"] for event in events[1:5]]
    assert await seen(other, "node", intent) == [event["id"] for event in events[5:]]
    assert await seen("root", "admin", intent) == [event["id"] for event in events]
    assert events[0]["id"] in await seen("anyone", "node", "market:intents")
    async with gateway.events(f"channel={intent}&cursor=earliest", one, "node") as blocks:
        assert [json.loads(block["data"])["id"] for block in (await blocks.read_until("live"))[1:-1]] == [
            event["id"] for event in events[1:5]
        ]
