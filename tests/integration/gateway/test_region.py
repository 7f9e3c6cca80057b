"""A gateway in a region: the same cursors and promises from a mirror, which may lag, be trimmed, be cut off or lost."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from services.gateway.bus import feed, lane
from tests.harness.gateway import Gateway
from tests.harness.marketplace import Marketplace
from tests.harness.region import (
    delete_mirror,
    filtered,
    hub_and_regions,
    lose,
    mirrored,
    regional_gateway,
    starve,
    trim,
)
from tests.harness.sites import Sites
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUYER = "b1"
CHANNEL = f"buyer:{BUYER}"
COLD: dict[str, Any] = {"log_bytes": 1024**2, "log_warm_events": 0}
EVENTS = 12


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """A feed that hears nothing notices in half its time: most of these tests wait for just that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "HEARTBEAT_SECONDS", 0.3)
        patch.setattr(feed, "_SILENCE_SECONDS", 1.0)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Sites, Marketplace]]:
    """A hub and eu, whose mirrors nobody keeps unless a test does."""
    async with hub_and_regions(tmp_path_factory.mktemp("region"), "eu") as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def eu(sited: tuple[Sites, Marketplace]) -> AsyncIterator[tuple[Sites, Marketplace, list[str]]]:
    """A new life of the market with twelve events of the buyer, all in eu; their cursors."""
    site, market = sited
    site.regions["eu"].link.heal()
    await site.linked("eu")
    await market.remake()
    await market.orders(EVENTS, buyer=BUYER)
    async with site.relay("eu"):
        await mirrored(site, market, "eu")
    cursors = [await market.cursor(sequence) for sequence in range(EVENTS + 1)]
    yield site, market, cursors
    site.regions["eu"].link.heal()


def cursors_of(messages: list[dict[str, Any]]) -> list[str]:
    return [message["cursor"] for message in messages if message["op"] == "event"]


async def over_websocket(gateway: Gateway, **start: Any) -> tuple[str | None, list[str]]:
    """The refusal's code or the gap's reason with its end, and the cursors of what came."""
    async with gateway.websocket(BUYER) as socket:
        await socket.send(op="subscribe", id=1, channel=CHANNEL, **start)
        first = await socket.read()
        if first["op"] == "error":
            assert first["error"]["retryable"]
            return first["error"]["code"], []
        messages = [first, *await socket.read_until("live")]
    gaps = [message for message in messages if message["op"] == "gap"]
    return (f"{gaps[0]['reason']} to {gaps[0]['to']}" if gaps else None), cursors_of(messages)


async def over_sse(gateway: Gateway, **start: Any) -> tuple[str | None, list[str]]:
    query = "&".join(f"{name}={value}".replace("+", "%2B") for name, value in start.items())
    said: str | None = None
    seen = []
    async with gateway.events(f"channel={CHANNEL}&{query}", BUYER) as blocks:
        while (block := await blocks.read()).get("event") != "live":
            if block.get("event") == "problem":
                return str(json.loads(block["data"])["code"]), []
            if block.get("event") == "gap":
                gap = json.loads(block["data"])
                said = said or f"{gap['reason']} to {gap['to']}"
            elif "data" in block:
                seen.append(block["id"])
    return said, seen


async def over_history(gateway: Gateway, **start: Any) -> tuple[str | None, list[str]]:
    query = {"after" if name == "cursor" else name: value for name, value in start.items()}
    async with gateway.http as client:
        answer = await client.get(f"/v1/channels/{CHANNEL}/events", params=query, headers=bearer(BUYER, "buyer"))
    page = answer.json()
    if answer.status_code != 200:
        assert "retry-after" in answer.headers
        return page["code"], []
    gap = page.get("gap")
    return (f"{gap['reason']} to {gap['to']}" if gap else None), [item["cursor"] for item in page["events"]]


async def asked(gateway: Gateway, **start: Any) -> tuple[str | None, list[str]]:
    """The same answer over every transport."""
    transports = (over_websocket, over_sse) if "last" in start else (over_websocket, over_sse, over_history)
    found = [await over(gateway, **start) for over in transports]
    assert all(one == found[0] for one in found), (start, found)
    return found[0]


async def test_a_region_says_who_it_is_and_goes_on_from_the_hubs_cursors(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    async with site.relay("eu"), regional_gateway(site, "eu", **COLD) as gateway:
        async with gateway.websocket(BUYER) as socket:
            assert socket.welcome["region"] == "eu"
            assert cursors_of(await socket.subscribe(CHANNEL, cursor=cursors[5])) == cursors[6:]
            (document,) = await market.orders(1, buyer=BUYER)
            live = await socket.read()
            assert (live["event"]["id"], live["cursor"]) == (document["id"], await market.cursor())
        async with gateway.http as client:
            metrics = (await client.get("/metrics")).text
            assert 'a2a_site_info{region="eu"} 1.0' in metrics
            assert (await client.get("/readyz")).json()["region"] == "eu"


OLD = "MARKET.000000001.7"
NEW = "MARKET.zzzzzzzzz.1"
LONG_AGO = {"since": "2020-01-01T00:00:00Z"}
UNAVAILABLE = "replay_unavailable"
# What the mirror keeps, what the hub keeps, whether the line is cut: how one begins, what is said, what comes first.
GAP_RULES: dict[tuple[int | None, int | None, bool], list[tuple[Any, str | None, int | None]]] = {
    (None, None, False): [
        (4, None, 5),
        (EVENTS, None, None),
        (EVENTS + 5, f"ahead to {EVENTS}", None),
        (NEW, UNAVAILABLE, None),
        (OLD, "recreated to 0", 1),
    ],
    (3, None, False): [
        (EVENTS - 3, None, EVENTS - 2),
        (4, None, 5),
        ("earliest", None, 1),
        ({"last": 7}, None, EVENTS - 6),
        (LONG_AGO, None, 1),
        (OLD, "recreated to 0", 1),
    ],
    (3, 6, False): [
        (2, f"expired to {EVENTS - 6}", EVENTS - 5),
        (EVENTS - 5, None, EVENTS - 4),
        ("earliest", None, EVENTS - 5),
        (LONG_AGO, f"expired to {EVENTS - 6}", EVENTS - 5),
    ],
    (None, 6, False): [(2, None, 3), ("earliest", None, 1)],
    (None, None, True): [(4, None, 5), ("earliest", None, 1), (EVENTS + 5, UNAVAILABLE, None)],
    (3, None, True): [
        (EVENTS - 2, None, EVENTS - 1),
        ({"last": 3}, None, EVENTS - 2),
        (4, UNAVAILABLE, None),
        ({"last": 7}, UNAVAILABLE, None),
        (OLD, UNAVAILABLE, None),
    ],
}


@pytest.mark.parametrize(("here", "there", "is_cut"), GAP_RULES)
async def test_what_is_missing_is_judged_by_the_hub(
    eu: tuple[Sites, Marketplace, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    here: int | None,
    there: int | None,
    is_cut: bool,
) -> None:
    site, market, cursors = eu
    if is_cut:
        monkeypatch.setattr(lane, "READ_SECONDS", 0.4)
    if here is not None:
        await trim(site, "eu", here)
    if there is not None:
        await market.purge(keep=there)
    cursor = await market.cursor(0)
    async with regional_gateway(site, "eu", **COLD) as gateway:
        if is_cut:
            site.regions["eu"].link.sever()
        for begin, said, first in GAP_RULES[here, there, is_cut]:
            begin = f"{cursor.rpartition('.')[0]}.{begin}" if isinstance(begin, int) else begin
            found = await asked(gateway, **(begin if isinstance(begin, dict) else {"cursor": begin}))
            if said is not None and " to " in said:
                reason, _, sequence = said.partition(" to ")
                said = f"{reason} to {cursors[int(sequence)]}"
            assert found == (said, [] if first is None else cursors[first:]), begin


async def test_a_cursor_that_the_mirror_has_not_reached_is_accepted_and_waits_for_it(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, _ = eu
    await starve(market, "eu")
    await market.orders(5, buyer=BUYER)
    cursor = await market.cursor()
    async with regional_gateway(site, "eu", **COLD) as gateway, gateway.websocket(BUYER) as socket:
        answer = await socket.ask(op="subscribe", id=1, channel=CHANNEL, cursor=cursor)
        assert (answer["op"], answer["cursor"]) == ("subscribed", cursor)
        (document,) = await market.orders(1, buyer=BUYER)
        async with site.relay("eu"):
            messages = await socket.read_until("event")
            assert [message["op"] for message in messages if message["op"] != "heartbeat"] in (
                ["live", "event"],
                ["event"],
            )
            assert messages[-1]["event"]["id"] == document["id"]


async def test_connections_and_replays_live_through_a_cut_and_miss_nothing(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    async with (
        site.relay("eu"),
        regional_gateway(site, "eu", **COLD) as gateway,
        gateway.websocket(BUYER) as socket,
        gateway.events(f"channel={CHANNEL}", BUYER) as blocks,
    ):
        await socket.subscribe(CHANNEL)
        await blocks.read_until("live")
        site.regions["eu"].link.sever()
        documents = await market.orders(20, buyer=BUYER)
        assert (await asked(gateway, cursor=cursors[3])) == (None, cursors[4:])
        async with gateway.http as client:
            assert (await client.get("/readyz")).status_code == 200
        site.regions["eu"].link.heal()
        seen = [(await socket.read(30))["event"]["id"] for _ in documents]
        assert seen == [document["id"] for document in documents]
        assert [json.loads((await blocks.read(30))["data"])["id"] for _ in documents] == seen


async def test_a_gateway_that_starts_while_the_line_is_cut_serves_what_its_mirror_has(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    site.regions["eu"].link.sever()
    documents = await market.orders(5, buyer=BUYER)
    async with regional_gateway(site, "eu", **COLD) as gateway, gateway.websocket(BUYER) as socket:
        async with gateway.http as client:
            assert (await client.get("/readyz")).status_code == 200
        assert await asked(gateway, cursor=cursors[3]) == (None, cursors[4:])
        await socket.subscribe(CHANNEL, cursor=cursors[-1])
        site.regions["eu"].link.heal()
        async with site.relay("eu"):
            assert [(await socket.read(30))["event"]["id"] for _ in documents] == [one["id"] for one in documents]


async def test_a_mirror_that_is_lost_and_filled_again_is_no_gap_and_doubles_nothing(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    async with regional_gateway(site, "eu", **COLD) as gateway, gateway.websocket(BUYER) as socket:
        await socket.subscribe(CHANNEL, cursor=cursors[0])
        await delete_mirror(site, "eu")
        # What the mirror does not have is at the hub, for as long as that is in reach.
        assert await over_websocket(gateway, cursor=cursors[2]) == (None, cursors[3:])
        documents = await market.orders(10, buyer=BUYER)
        async with site.relay("eu"):
            messages = [await socket.read(30) for _ in documents]
            assert [message["op"] for message in messages] == ["event"] * 10
            assert [message["event"]["id"] for message in messages] == [document["id"] for document in documents]
            assert await asked(gateway, cursor=cursors[9]) == (None, [*cursors[10:], *cursors_of(messages)])


async def test_a_stream_made_again_at_the_hub_is_told_to_the_regions_clients(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    async with (
        site.relay("eu"),
        regional_gateway(site, "eu", **COLD) as gateway,
        gateway.websocket(BUYER) as told,
        gateway.websocket(BUYER) as strict,
    ):
        await told.subscribe(CHANNEL)
        await strict.subscribe(CHANNEL, on_gap="refuse")
        await market.remake()
        documents = await market.orders(3, buyer=BUYER)
        gap = await told.read(30)
        assert (gap["op"], gap["reason"], gap["from"]) == ("gap", "recreated", cursors[-1])
        assert gap["to"] == await market.cursor(0)
        assert [(await told.read(30))["event"]["id"] for _ in documents] == [one["id"] for one in documents]
        assert (await strict.read())["error"]["code"] == "cursor_recreated"
        assert await strict.closed() == 4203
        assert await asked(gateway, cursor=cursors[5]) == (
            f"recreated to {await market.cursor(0)}",
            [await market.cursor(number) for number in (1, 2, 3)],
        )


async def test_a_gateway_in_a_region_makes_no_streams(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    async with regional_gateway(site, "eu", **COLD) as gateway:
        await delete_mirror(site, "eu")
        async with gateway.http as client:

            async def is_unready() -> bool:
                return (await client.get("/readyz")).status_code == 503

            await until(is_unready, what="the gateway has noticed that its mirror is gone")
        assert await over_websocket(gateway, cursor=cursors[4]) == (None, cursors[5:])
    assert (await market.state()).last == EVENTS


async def test_a_mirror_that_let_go_of_everything_hides_nothing(eu: tuple[Sites, Marketplace, list[str]]) -> None:
    site, _, cursors = eu
    await trim(site, "eu", 0)
    async with regional_gateway(site, "eu", **COLD) as gateway:
        assert await asked(gateway, **LONG_AGO) == (None, cursors[1:])
        assert await asked(gateway, cursor="earliest") == (None, cursors[1:])
        assert await asked(gateway, last=3) == (None, cursors[-3:])


async def test_a_mirror_that_is_being_filled_again_is_not_taken_for_the_whole(
    eu: tuple[Sites, Marketplace, list[str]],
) -> None:
    site, market, cursors = eu
    await starve(market, "eu")
    cursors += [await market.cursor(EVENTS + number) for number in range(1, 9)]
    await market.orders(8, buyer=BUYER)
    async with regional_gateway(site, "eu", **COLD) as gateway:
        assert gateway.replica is not None
        stream = gateway.replica.streams["MARKET"]
        stream.restart(
            "expired", stream.log.life.epoch, EVENTS + 8
        )  # as if it had read them before the mirror was lost
        before = (await market.jetstream.get_msg("MARKET", EVENTS + 3)).time
        assert before is not None
        assert await asked(gateway, last=3) == (None, cursors[-3:])
        assert await asked(gateway, since=before.isoformat()) == (None, cursors[EVENTS + 3 :])
        assert await asked(gateway, cursor=cursors[2]) == (None, cursors[3:])
        assert await asked(gateway, cursor=cursors[EVENTS + 1]) == (None, cursors[EVENTS + 2 :])
        assert await asked(gateway, cursor="earliest") == (None, cursors[1:])


async def test_what_a_mirror_has_lost_in_its_middle_is_waited_for(eu: tuple[Sites, Marketplace, list[str]]) -> None:
    site, _, cursors = eu
    async with site.relay("eu", interval_seconds=1):  # it has to see it twice
        await lose(site, "eu", 5, 6)
        async with regional_gateway(site, "eu", log_warm_events=EVENTS) as gateway:
            assert await asked(gateway, cursor=cursors[0]) == (None, cursors[1:])


async def test_what_the_hub_has_deleted_too_is_not_waited_for(eu: tuple[Sites, Marketplace, list[str]]) -> None:
    site, market, cursors = eu
    await market.delete(5, 6)
    await lose(site, "eu", 5, 6)
    async with regional_gateway(site, "eu", log_warm_events=EVENTS) as gateway:
        assert await asked(gateway, cursor=cursors[0]) == (None, [*cursors[1:5], *cursors[7:]])


async def test_a_mirror_of_a_part_of_the_stream_is_not_read(eu: tuple[Sites, Marketplace, list[str]]) -> None:
    site, _, cursors = eu
    async with regional_gateway(site, "eu", **COLD) as gateway, gateway.http as client:
        await filtered(site, "eu", "market.*.somebody.>")
        assert await asked(gateway, cursor=cursors[3]) == (None, cursors[4:])
        assert await asked(gateway, cursor="earliest") == (None, cursors[1:])

        async def is_unready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(is_unready, what="the gateway does not follow it")


async def test_what_the_hub_let_go_while_the_line_was_cut_is_named(eu: tuple[Sites, Marketplace, list[str]]) -> None:
    site, market, cursors = eu
    async with site.relay("eu"), regional_gateway(site, "eu", **COLD) as gateway, gateway.websocket(BUYER) as socket:
        await socket.subscribe(CHANNEL)
        site.regions["eu"].link.sever()
        await market.orders(20, buyer=BUYER)
        await market.purge(keep=5)
        kept = [await market.cursor(EVENTS + number) for number in range(15, 21)]
        site.regions["eu"].link.heal()
        gap = await socket.read(30)
        assert (gap["op"], gap["reason"], gap["from"], gap["to"]) == ("gap", "expired", cursors[-1], kept[0])
        assert [(await socket.read(30))["cursor"] for _ in range(5)] == kept[1:]
