"""What a running gateway sends is what the AsyncAPI document that it serves says."""

import json
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft7Validator, FormatChecker

from tests.harness.events import deal, fresh
from tests.harness.gateway import Gateway
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Described:
    """The document, as a judge of messages."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def of_channel(self, channel: str, message: Any) -> list[str]:
        """Which of the channel's messages this one is."""
        names = self._document["channels"][channel]["messages"]
        return [name for name in names if self._fits(name, message)]

    def told(self, message: Any) -> list[str]:
        """Which of the messages that the gateway sends over a WebSocket this one is."""
        sent = [one["$ref"].rpartition("/")[2] for one in self._document["operations"]["tell"]["messages"]]
        return [name for name in sent if self._fits(name, message)]

    def _fits(self, name: str, message: Any) -> bool:
        payload = self._document["components"]["messages"][name]["payload"]
        schema = {**payload, "components": self._document["components"]}
        return Draft7Validator(schema, format_checker=FormatChecker()).is_valid(message)


@pytest_asyncio.fixture(loop_scope="module")
async def described(gateway: Gateway) -> Described:
    async with gateway.http as client:
        return Described((await client.get("/v1/asyncapi.json")).json())


async def test_each_message_of_a_websocket_is_one_of_those_described(
    gateway: Gateway, publisher: Marketplace, described: Described
) -> None:
    buyer = fresh("buyer")
    await publisher.publish_all(deal(buyer=buyer))
    async with gateway.websocket(buyer) as socket:
        seen = [socket.welcome, *await socket.subscribe(f"buyer:{buyer}", cursor="earliest")]
        seen += await socket.subscribe(f"order:{buyer}", cursor="MARKET.00000000a.1")
        seen.append(await socket.ask(op="heartbeat", id="h"))
        seen.append(await socket.ask(op="unsubscribe", id=3, channel=f"order:{buyer}"))
        seen.append(await socket.ask(op="shout", id=4))
        seen.append(await socket.ask(op="subscribe", channel="node:another"))
    named = [described.told(message) for message in seen]
    assert all(len(names) == 1 for names in named), list(zip(named, seen, strict=True))
    assert {name for (name,) in named} == {
        "Welcome", "Subscribed", "Delivery", "Live", "Gap", "HeartbeatAnswer", "Unsubscribed", "Error",
    }  # fmt: skip


async def test_each_event_of_a_channel_is_one_of_its_events(
    gateway: Gateway, publisher: Marketplace, described: Described
) -> None:
    buyer = fresh("buyer")
    events = deal(buyer=buyer)
    await publisher.publish_all(events)
    async with gateway.websocket(buyer) as socket:
        told = await socket.subscribe(f"buyer:{buyer}", cursor="earliest")
    for message in told:
        if message["op"] == "event":
            event = message["event"]
            assert described.of_channel("buyer", event) == [f"{event['type']}.{event['schemaversion']}"]


async def test_a_page_and_the_blocks_of_an_event_stream_are_described_too(
    gateway: Gateway, publisher: Marketplace, described: Described
) -> None:
    buyer = fresh("buyer")
    await publisher.publish_all(deal(buyer=buyer))
    async with gateway.http as client:
        page = await client.get(f"/v1/channels/buyer:{buyer}/events", headers=bearer(buyer, "buyer"))
    assert described.of_channel("history", page.json()) == ["HistoryPage"]
    async with gateway.events(f"channel=buyer:{buyer}&cursor=MARKET.00000000a.1", buyer) as stream:
        blocks = await stream.read_until("live")
    for block in blocks:
        if "data" in block:
            named = described.of_channel("eventStream", json.loads(block["data"]))
            expected = f"stream.{block['event']}" if block["event"].islower() else "CloudEvent"
            assert expected in named
