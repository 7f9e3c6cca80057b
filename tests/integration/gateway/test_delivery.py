"""An event published is an event seen, by whom it concerns and by nobody else."""

from typing import Any

import pytest

from tests.harness.events import deal, event, fresh
from tests.harness.gateway import Gateway
from tests.harness.ingest import publishing as ingesting
from tests.harness.marketplace import Marketplace as Publisher

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_five_core_events_reach_buyer_node_and_admin_over_websocket_in_order(
    gateway: Gateway, publisher: Publisher
) -> None:
    buyer, node = fresh("buyer"), fresh("node")
    async with (
        gateway.websocket(buyer, "buyer") as as_buyer,
        gateway.websocket(node, "node") as as_node,
        gateway.websocket("root", "admin") as as_admin,
    ):
        await as_buyer.subscribe(f"buyer:{buyer}")
        await as_node.subscribe(f"node:{node}")
        await as_admin.subscribe("admin:market")
        documents = deal(buyer=buyer, node=node)
        seen: list[Any] = []
        sequences = [await publisher.publish(document) for document in documents]
        for socket, expected in ((as_buyer, documents), (as_node, documents[1:]), (as_admin, documents)):
            seen = [await socket.read() for _ in expected]
            assert [message["event"] for message in seen] == expected
        assert [int(message["cursor"].rpartition(".")[2]) for message in seen] == sequences


async def test_the_five_core_events_reach_buyer_node_and_admin_over_sse_in_order(
    gateway: Gateway, publisher: Publisher
) -> None:
    buyer, node = fresh("buyer"), fresh("node")
    async with (
        gateway.events(f"channel=buyer:{buyer}", buyer, "buyer") as as_buyer,
        gateway.events(f"channel=node:{node}", node, "node") as as_node,
        gateway.events("channel=admin:market", "root", "admin") as as_admin,
    ):
        for blocks in (as_buyer, as_node, as_admin):
            await blocks.read_until("live")
        documents = deal(buyer=buyer, node=node)
        for document in documents:
            await publisher.publish(document)
        for blocks, expected in ((as_buyer, documents), (as_node, documents[1:]), (as_admin, documents)):
            assert [(await blocks.read())["event"] for _ in expected] == [document["type"] for document in expected]


async def test_a_buyer_sees_nothing_of_another_buyers_order_and_cannot_tell_that_it_exists(
    gateway: Gateway, publisher: Publisher
) -> None:
    order = fresh("order")
    await publisher.publish(event("ORDER_CREATED", buyer="someone_else", order=order))
    async with gateway.websocket(fresh("buyer")) as socket:
        real = await socket.subscribe(f"order:{order}", cursor="earliest")
        guessed = await socket.subscribe(f"order:{fresh('order')}", cursor="earliest")
    assert [message["op"] for message in real] == ["subscribed", "live"]
    assert [message["op"] for message in guessed] == ["subscribed", "live"]


async def test_events_published_over_http_are_seen_on_websocket_and_sse_with_the_cursor_that_the_publisher_was_told(
    gateway: Gateway, publisher: Publisher, nats_server: str
) -> None:
    buyer, node = fresh("buyer"), fresh("node")
    documents = deal(buyer=buyer, node=node)
    async with (
        ingesting(nats_server) as ingest,
        gateway.websocket(buyer, "buyer") as socket,
        gateway.events(f"channel=node:{node}", node, "node") as blocks,
        gateway.events("channel=admin:market", "root", "admin") as whole,
    ):
        await ingest.ready()
        await socket.subscribe(f"buyer:{buyer}")
        for one in (blocks, whole):
            await one.read_until("live")
        cursors = [(await ingest.one(documents[0])).json()["cursor"]]
        cursors += [told["cursor"] for told in (await ingest.batch(documents[1:])).json()]
        seen = [await socket.read() for _ in documents]
        assert [message["event"] for message in seen] == documents
        assert [message["cursor"] for message in seen] == cursors
        assert [(await blocks.read())["id"] for _ in documents[1:]] == cursors[1:]
        assert [(await whole.read())["id"] for _ in documents] == cursors
        assert (await ingest.one(documents[0])).json()["duplicate"] is True
        more = deal(buyer=buyer)
        await ingest.batch(more)
        assert [(await socket.read())["event"] for _ in more] == more
