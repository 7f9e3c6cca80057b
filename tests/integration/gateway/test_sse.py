"""`GET /v1/events`: blocks, control events, positions, plans that end (PROTOCOL §6)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.local.embedded import EmbeddedNats
from tests.harness.events import deal, event, fresh
from tests.harness.gateway import Blocks, Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def idle_gateway(nats_server: str) -> AsyncIterator[Gateway]:
    """A gateway that takes a quarter of a second for idle."""
    async with running_gateway(nats_server, sse_idle_s=0.25) as found:
        yield found


async def status_of(gateway: Gateway, query: str, sub: str = "b1", role: str = "buyer", **headers: str) -> Any:
    """The status and the code of an answer that is no stream."""
    async with gateway.http as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await client.get(f"/v1/events?{query}", headers={**bearer(sub, role), **named})
        if answer.status_code == 204:
            return 204
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        return answer.status_code, answer.json()["code"]


async def to_the_end(blocks: Blocks) -> list[dict[str, str]]:
    """Every block until the stream closes, without the first."""
    found = []
    while block := await blocks.read():
        found.append(block)
    return found[1:]


def names(blocks: list[dict[str, str]]) -> list[str | None]:
    return [block.get("event") for block in blocks]


async def test_events_of_many_channels_come_merged_in_order_each_once(gateway: Gateway, publisher: Marketplace) -> None:
    buyer, order = fresh("buyer"), fresh("order")
    intent = fresh("intent")
    before = [one for _ in range(20) for one in deal(buyer=buyer, order=order, intent=intent)]
    await publisher.publish_all(before)
    query = f"channel=buyer:{buyer}&channel=order:{order}&channel=intent:{intent}&cursor=earliest"
    async with gateway.events(query, buyer) as blocks:
        *replayed, turn = (await blocks.read_until("live"))[1:]
        assert json.loads(turn["data"]) == {"replayed": len(replayed)}
        # What the gateway had not taken from the stream by then comes live.
        late = [await blocks.read() for _ in before[len(replayed) :]]
        assert [json.loads(one["data"])["id"] for one in replayed + late] == [one["id"] for one in before]
        after = deal(buyer=buyer, order=order, intent=intent)
        await publisher.publish_all(after)
        live = [await blocks.read() for _ in after]
        assert [json.loads(one["data"])["id"] for one in live] == [one["id"] for one in after]
        assert names(live) == [one["type"] for one in after]
        numbers = [int(one["id"].rpartition(".")[2]) for one in (*replayed, *late, *live)]
        assert numbers == sorted(numbers)


async def test_last_counts_for_each_channel_and_merges(gateway: Gateway, publisher: Marketplace) -> None:
    one, two, buyer = fresh("order"), fresh("order"), fresh("buyer")
    first = await publisher.orders(5, order=one, buyer=buyer)
    second = await publisher.orders(5, order=two, buyer=buyer)
    first += await publisher.orders(1, order=one, buyer=buyer)
    async with gateway.events(f"channel=order:{one}&channel=order:{two}&last=2", buyer) as blocks:
        replayed = (await blocks.read_until("live"))[1:-1]
        wanted = [first[-2], *second[-2:], first[-1]]
        assert [json.loads(block["data"])["id"] for block in replayed] == [document["id"] for document in wanted]


async def test_last_event_id_wins_over_every_other_start(gateway: Gateway, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    documents = await publisher.orders(4, buyer=buyer)
    end = int((await publisher.cursor()).rpartition(".")[2])
    cursor = await publisher.cursor(end - 1)
    for other in ("cursor=earliest", "last=3", "since=2020-01-01T00:00:00Z"):
        async with gateway.events(f"channel=buyer:{buyer}&{other}", buyer, headers={"Last-Event-ID": cursor}) as blocks:
            replayed = (await blocks.read_until("live"))[1:-1]
            assert [json.loads(block["data"])["id"] for block in replayed] == [documents[-1]["id"]]
    async with gateway.events(f"channel=buyer:{buyer}&last=1", buyer, headers={"Last-Event-ID": ""}) as blocks:
        assert len(await blocks.read_until("live")) == 3


async def test_an_idle_stream_gets_a_ping_and_its_position_moves_with_the_stream(
    idle_gateway: Gateway, publisher: Marketplace
) -> None:
    async with idle_gateway.events(f"channel=buyer:{fresh('buyer')}", "root", "admin") as blocks:
        start = (await blocks.read_until("live"))[-1]["id"]
        found = await blocks.read()
        assert found == {"": "ping", "event": "position", "id": start, "data": "{}"}
        await publisher.orders(3)
        end = await publisher.cursor()

        async def moved() -> bool:
            return (await blocks.read())["id"] == end

        await until(moved, seconds=3, what="the position moves on without an event of its own")


async def test_type_filters_apply(gateway: Gateway, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    async with gateway.events(f"channel=buyer:{buyer}&type=ORDER_CREATED&type=QUOTE_RECEIVED", buyer) as blocks:
        await blocks.read_until("live")
        await publisher.publish_all(deal(buyer=buyer) + deal(buyer=buyer))
        seen = [(await blocks.read())["event"] for _ in range(4)]
        assert seen == ["QUOTE_RECEIVED", "ORDER_CREATED"] * 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (400, "invalid_parameter")),
        ("channel=", (400, "invalid_channel")),
        ("channel=buyer:b1&channel=plan:p1", (400, "mixed_streams")),
        ("channel=buyer:b1&plan_id=p1", (400, "mixed_streams")),
        ("channel=buyer:b2", (403, "forbidden")),
        ("channel=buyer:b1&channel=buyer:b2", (403, "forbidden")),
        ("channel=nothing:x", (404, "unknown_channel")),
        ("channel=market:other", (404, "unknown_channel")),
        ("plan_id=*", (400, "invalid_channel")),
        ("channel=buyer:b1&cursor=x", (400, "invalid_cursor")),
        ("channel=buyer:b1&cursor=PLANS.000000000.0", (400, "invalid_cursor")),
        ("channel=buyer:b1&cursor=earliest&last=1", (400, "invalid_parameter")),
        ("channel=buyer:b1&since=2026-01-01", (400, "invalid_parameter")),
        ("channel=buyer:b1&since=yesterday", (400, "invalid_parameter")),
        ("channel=buyer:b1&last=0", (400, "invalid_parameter")),
        ("channel=buyer:b1&last=1001", (400, "invalid_parameter")),
        ("channel=buyer:b1&last=%C2%B2", (400, "invalid_parameter")),
        ("channel=buyer:b1&on_gap=maybe", (400, "invalid_parameter")),
        ("&".join(f"channel=order:o{number}" for number in range(129)), (400, "too_many_subscriptions")),
        ("channel=buyer:b1&" + "&".join(f"type=T{number}" for number in range(65)), (400, "invalid_parameter")),
    ],
)
async def test_what_no_retry_can_help_is_a_status(gateway: Gateway, query: str, expected: tuple[int, str]) -> None:
    assert await status_of(gateway, query) == expected


async def test_a_bad_last_event_id_is_a_status_and_128_channels_are_allowed(gateway: Gateway) -> None:
    assert await status_of(gateway, "channel=buyer:b1", Last_Event_ID="7") == (400, "invalid_cursor")
    query = "&".join(f"channel=order:o{number}" for number in range(128))
    async with gateway.events(query) as blocks:
        assert await blocks.read_until("live")


async def test_what_a_retry_may_help_is_told_in_a_stream_that_ends(nats_server: str) -> None:
    async with running_gateway(nats_server, max_connections_per_principal=1) as gateway:
        expired = bearer("b1", "buyer", expires_in=-5)
        async with gateway.events("channel=buyer:b1", headers=expired) as blocks:
            told = await to_the_end(blocks)
            assert told[0].keys() == {"retry"}
            assert (told[1]["event"], json.loads(told[1]["data"])["code"]) == ("problem", "token_expired")
        async with gateway.events("channel=buyer:b1") as first, gateway.events("channel=buyer:b1") as second:
            await first.read_until("live")
            told = await to_the_end(second)
            assert told[0] == {"retry": "10000"}
            assert json.loads(told[1]["data"])["code"] == "too_many_connections"
        assert gateway.replica is not None
        replica = gateway.replica
        await until(lambda: not replica.principals, seconds=1)
        replica.draining = True
        async with gateway.events("channel=buyer:b1") as blocks:
            told = await to_the_end(blocks)
            assert json.loads(told[1]["data"])["code"] == "draining"
        replica.draining = False


async def test_a_token_that_runs_out_ends_the_stream_after_its_grace(nats_server: str) -> None:
    async with running_gateway(nats_server, token_grace_s=0.5) as gateway:
        async with gateway.events("channel=buyer:b1", headers=bearer("b1", "buyer", expires_in=2)) as blocks:
            await blocks.read_until("live")
            told = await to_the_end(blocks)
            assert json.loads(told[-1]["data"])["code"] == "token_expired"
        assert gateway.replica is not None
        assert not gateway.replica.connections


async def test_a_plan_that_ends_closes_its_stream_and_a_return_gets_nothing(
    gateway: Gateway, publisher: Marketplace
) -> None:
    plan = fresh("plan")
    await publisher.plan("b1", plan)
    async with gateway.events(f"plan_id={plan}&cursor=earliest") as blocks:
        assert names(await blocks.read_until("live"))[1:] == ["PLAN_STATUS_UPDATED", "live"]
        await publisher.plan("b1", plan)
        await publisher.plan("b1", plan, final=True)
        told = [await blocks.read() for _ in range(3)]
        assert names(told) == ["PLAN_STATUS_UPDATED", "PLAN_STATUS_UPDATED", "end"]
        assert told[2]["data"] == "{}"
        assert await blocks.read() == {}
    final = told[1]["id"]
    assert await status_of(gateway, f"plan_id={plan}", Last_Event_ID=final) == 204
    assert await status_of(gateway, f"plan_id={plan}&cursor={await publisher.cursor(stream='PLANS')}") == 204
    for query, events in (
        (f"plan_id={plan}", 1),
        (f"plan_id={plan}&cursor={told[0]['id']}", 1),
        (f"plan_id={plan}&cursor=earliest", 3),
        (f"plan_id={plan}&last=2", 2),
        (f"plan_id={plan}&since=2020-01-01T00:00:00Z", 3),
        (f"plan_id={plan}&since=2100-01-01T00:00:00Z", 0),
        (f"plan_id={plan}&since=2100-01-01T00:00:00Z&on_gap=refuse", 0),
    ):
        async with gateway.events(query) as blocks:
            assert names(await to_the_end(blocks)) == ["PLAN_STATUS_UPDATED"] * events + ["end"], query
    assert gateway.replica is not None
    assert not gateway.replica.connections


async def test_an_ended_plan_is_known_by_a_gateway_that_never_read_it(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    await market.plan("b1", "p1", final=True)
    end = await market.cursor(stream="PLANS")
    await market.plan("b1", "p2")
    async with running_gateway(fresh_nats.url, log_warm_events=0) as gateway:
        assert await status_of(gateway, f"plan_id=p1&cursor={end}") == 204
        async with gateway.events("plan_id=p1") as blocks:
            assert names(await to_the_end(blocks)) == ["PLAN_STATUS_UPDATED", "end"]


async def test_a_strangers_ended_plan_behaves_as_an_empty_one(idle_gateway: Gateway, publisher: Marketplace) -> None:
    plan, empty = fresh("plan"), fresh("plan")
    await publisher.plan("b1", plan, final=True)
    end = await publisher.cursor(stream="PLANS")
    for query in ("", "&cursor=earliest", f"&cursor={end}", "&last=5"):
        told = []
        for name in (plan, empty):
            async with idle_gateway.events(f"plan_id={name}{query}", "b2") as blocks:
                told.append([(await blocks.read()) for _ in range(3)][1:])
        assert told[0] == told[1]
        assert names(told[0]) == ["live", "position"]


async def test_a_stream_of_plans_ends_with_the_last_of_them_wherever_it_began(
    gateway: Gateway, publisher: Marketplace
) -> None:
    one, two = fresh("plan"), fresh("plan")
    await publisher.plan("b1", one, final=True)
    after_one = await publisher.cursor(stream="PLANS")
    await publisher.plan("b1", two)
    both = f"plan_id={one}&plan_id={two}"
    async with gateway.events(f"{both}&cursor={after_one}") as resumed, gateway.events(both) as fresh_start:
        await resumed.read_until("live")
        await fresh_start.read_until("live")
        await publisher.plan("b1", two, final=True)
        for blocks in (resumed, fresh_start):
            assert [(await blocks.read(2))["event"] for _ in range(2)] == ["PLAN_STATUS_UPDATED", "end"]
            assert await blocks.read() == {}
    async with gateway.events(f"{both}&cursor={after_one}") as blocks:
        assert names(await to_the_end(blocks)) == ["PLAN_STATUS_UPDATED", "PLAN_STATUS_UPDATED", "end"]
    async with gateway.events(both) as blocks:
        assert names(await to_the_end(blocks))[-1] == "end"
    assert await status_of(gateway, f"{both}&cursor={await publisher.cursor(stream='PLANS')}") == 204


async def test_a_filter_on_types_does_not_keep_an_ended_plan_open(gateway: Gateway, publisher: Marketplace) -> None:
    plan = fresh("plan")
    async with gateway.events(f"plan_id={plan}&type=PLAN_ARTIFACT_UPDATED") as blocks:
        await blocks.read_until("live")
        await publisher.plan("b1", plan, final=True)
        assert (await blocks.read(2))["event"] == "end"
        assert await blocks.read() == {}


async def test_a_draining_gateway_tells_its_streams_when_to_come_back(nats_server: str) -> None:
    async with running_gateway(nats_server) as gateway, gateway.events("channel=buyer:b1") as blocks:
        await blocks.read_until("live")
        assert gateway.replica is not None
        for connection in list(gateway.replica.connections):
            connection.drain()
        told = await blocks.read_until("drain")
        assert "retry" in told[0]
        assert json.loads(told[-1]["data"]).keys() == {"reconnect_in_ms"}
        assert await blocks.read() == {}


async def test_many_streams_that_come_and_go_leave_nothing(gateway: Gateway, publisher: Marketplace) -> None:
    buyer = fresh("buyer")

    async def once() -> None:
        async with gateway.events(f"channel=buyer:{buyer}&last=5", buyer) as blocks:
            await blocks.read_until("live")

    publishing = asyncio.create_task(publisher.orders(300, buyer=buyer))
    await asyncio.gather(*(once() for _ in range(40)))
    await publishing
    replica = gateway.replica
    assert replica is not None
    await until(lambda: not replica.connections and not replica.principals, seconds=1)
    assert len(replica.streams["MARKET"].fanout) == 0
    await publisher.publish(event("ORDER_CREATED", buyer=buyer))
