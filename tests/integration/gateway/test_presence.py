"""Presence and signals over two replicas: real sockets, a real bucket, a line that is cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from nats.aio.client import Client

from services.chassis import jetstream
from services.local.embedded import EmbeddedNats
from tests.harness.attendees import Attendee, attending, settled
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, GatewayProcess, running_gateway
from tests.harness.line import Line
from tests.harness.marketplace import Marketplace
from tests.harness.region import hub_and_regions, mirrored
from tests.harness.sites import HUB
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Short, so that the suite is; the promise with the defaults is in test_presence_endurance.py.
SHORT = {"presence_lease_s": 2, "presence_renew_s": 0.5, "presence_grace_s": 1.0}
# Where nobody is to leave, however busy the machine is.
PATIENT = {"presence_lease_s": 8, "presence_renew_s": 0.5, "presence_grace_s": 5.0}


async def deal(market: Marketplace) -> str:
    """An order between b1 and n1; its channel."""
    order = fresh("order")
    await market.orders(1, order=order, buyer="b1", node="n1")
    return f"order:{order}"


@contextlib.asynccontextmanager
async def pair(
    market: Marketplace, nats: EmbeddedNats, times: Mapping[str, float] = SHORT
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two replicas."""
    async with running_gateway(nats.url, **times) as first, running_gateway(nats.url, **times) as second:
        yield first, second


@contextlib.asynccontextmanager
async def process(nats_url: str, times: Mapping[str, float] = SHORT) -> AsyncIterator[GatewayProcess]:
    """A replica in a process of its own."""
    found = GatewayProcess(nats_url, **{f"A2A_{name.upper()}": str(value) for name, value in times.items()})
    try:
        await found.start()
        yield found
    finally:
        found.kill()


async def keys(client: Client) -> int:
    """How many keys the bucket has, marks of removed ones apart."""
    found = await jetstream.request(client, "STREAM.INFO.KV_PRESENCE", {"subjects_filter": "$KV.PRESENCE.m.>"})
    return len(found["state"].get("subjects") or {})


async def test_six_clients_of_two_replicas_see_each_other_right_after_they_enter(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with pair(market, fresh_nats) as gateways, contextlib.AsyncExitStack() as stack:
        people: list[Attendee] = []
        for gateway in gateways:
            for sub, role in (("b1", "buyer"), ("n1", "node"), (f"root{len(people)}", "admin")):
                people.append(await stack.enter_async_context(attending(gateway, sub, role, channel)))
        for person in people:
            await person.enter(person.sub)
        for person in people:
            await person.sees("b1", "n1", "root0", "root3")
        late = await stack.enter_async_context(attending(gateways[1], "b1", "buyer", channel))
        assert set(late.members or ()) == {"b1", "n1", "root0", "root3"}
        # Two connections of one principal are one member: it leaves with the last.
        await people[0].leave()
        await people[2].leave()
        await people[1].sees("b1", "n1", "root3")
        await people[3].leave()
        await people[1].sees("n1", "root3")


async def test_signals_reach_the_others_at_both_replicas_and_no_stranger(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        pair(market, fresh_nats) as (first, second),
        attending(first, "b1", "buyer", channel) as buyer,
        attending(first, "root", "admin", channel, presence=False) as admin,
        attending(second, "n1", "node", channel) as node,
        attending(second, "n2", "node", channel) as stranger,
    ):
        await stranger.signal()
        await buyer.signal("typing", {"field": "price"})
        for person in (admin, node):
            await person.hears()
            assert person.signals[0]["from"] == {"sub": "b1", "role": "buyer"}
            assert (person.signals[0]["kind"], person.signals[0]["data"]) == ("typing", {"field": "price"})
        await settled(buyer, admin, node, stranger, seconds=0.3)
        assert [len(person.signals) for person in (buyer, admin, node, stranger)] == [0, 1, 1, 0]


async def test_members_of_a_killed_replica_are_gone_after_lease_and_grace_and_its_pages_too(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        process(fresh_nats.url) as gone,
        running_gateway(fresh_nats.url, **SHORT) as gateway,
        attending(gateway, "b1", "buyer", channel) as buyer,
        contextlib.AsyncExitStack() as stack,
    ):
        for sub, role in (("n1", "node"), ("root", "admin")):
            await (await stack.enter_async_context(attending(gone.gateway, sub, role, channel))).enter()
        await buyer.sees("n1", "root")
        gone.kill()
        await buyer.sees(seconds=15)
        assert sorted(buyer.told) == [("join", "n1"), ("join", "root"), ("leave", "n1"), ("leave", "root")]

        async def swept() -> bool:
            return await keys(market.client) == 0

        await until(swept, what="its pages were removed")


async def test_a_client_that_flaps_between_replicas_has_never_been_away(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with pair(market, fresh_nats, PATIENT) as gateways, contextlib.AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(attending(gateway, sub, role, channel))
            for gateway in gateways
            for sub, role in (("b1", "buyer"), ("root", "admin"), ("n1", "node"))
        ]
        first, second = gateways
        for gateway in (second, first, second):
            async with attending(gateway, "n1", "node", channel) as node:
                await node.enter("here")
                for person in (node, *watchers):
                    await person.sees("n1")
                await settled(node, seconds=0.2)
        assert [person.told for person in watchers] == [[("join", "n1")]] * 6
        for person in watchers:
            await person.sees(seconds=20)
            assert person.told == [("join", "n1"), ("leave", "n1")]


async def test_a_replica_cut_off_for_long_leaves_once_elsewhere_and_comes_back_once(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        Line(fresh_nats.port).open() as line,
        running_gateway(fresh_nats.url, **SHORT) as first,
        process(line.url) as second,
        attending(first, "b1", "buyer", channel) as here,
        attending(second.gateway, "n1", "node", channel) as there,
        attending(second.gateway, "root", "admin", channel) as beside,
    ):
        for person in (here, there, beside):
            await person.enter()
        for person in (here, there, beside):
            await person.sees("b1", "n1", "root")
        before = [len(person.told) for person in (here, there, beside)]
        line.sever()
        await here.sees("b1", seconds=15)
        # Cut off, a replica goes on with what it knows, and with the members it has itself.
        await beside.leave()
        await there.sees("b1", "n1")
        line.heal()
        await here.sees("b1", "n1", seconds=15)
        await settled(here, there, beside)
        assert sorted(here.told[before[0] :]) == [("join", "n1"), ("leave", "n1"), ("leave", "root")]
        assert there.told[before[1] :] == beside.told[before[2] :] == [("leave", "root")]


async def test_who_comes_to_a_replica_that_is_cut_off_takes_part_once_it_is_not(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        Line(fresh_nats.port).open() as line,
        running_gateway(fresh_nats.url, **PATIENT) as first,
        # It has nothing of what was stored before it began: who is a party only the stream tells.
        process(line.url, {**PATIENT, "log_warm_events": 0}) as second,
        attending(first, "n1", "node", channel) as there,
    ):
        line.sever()
        async with attending(second.gateway, "b1", "buyer", channel) as here:
            await here.enter("at last")
            assert here.members == {}
            async with second.gateway.http as http:
                path = f"/v1/channels/{channel}/presence"
                answer = await http.get(path, headers=bearer("b1", "buyer"))
                assert (answer.status_code, answer.json()["code"]) == (503, "replay_unavailable")
                assert int(answer.headers["retry-after"]) > 0
                line.heal()
                await there.enter("all the time")
                for person in (here, there):
                    await person.sees("b1", "n1", seconds=30)
                answer = await http.get(path, headers=bearer("b1", "buyer"))
                assert [one["sub"] for one in answer.json()["members"]] == ["b1", "n1"]


async def test_a_short_cut_and_a_restart_of_nats_are_no_news(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    channel = await deal(market)
    async with (
        Line(fresh_nats.port).open() as line,
        running_gateway(fresh_nats.url, **PATIENT) as first,
        process(line.url, PATIENT) as second,
        attending(first, "b1", "buyer", channel) as here,
        attending(second.gateway, "n1", "node", channel) as there,
    ):
        for person in (here, there):
            await person.enter()
        for person in (here, there):
            await person.sees("b1", "n1")
        line.sever()
        await asyncio.sleep(0.7)
        line.heal()
        await settled(here, there, seconds=2)
        await asyncio.to_thread(fresh_nats.kill)
        await asyncio.to_thread(fresh_nats.start)
        await here.leave()
        await there.sees("n1", seconds=15)
        await settled(here, there)
        assert sorted(here.told) == [("join", "b1"), ("join", "n1"), ("leave", "b1")]
        assert there.told[-1] == ("leave", "b1")
        assert [one for one in there.told if one[0] == "leave"] == [("leave", "b1")]


async def test_a_bucket_that_was_lost_is_written_again(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    channel = await deal(market)
    async with (
        pair(market, fresh_nats) as (first, second),
        attending(first, "b1", "buyer", channel) as here,
        attending(second, "n1", "node", channel) as there,
    ):
        await there.enter()
        await here.sees("n1")
        await jetstream.request(market.client, "STREAM.DELETE.KV_PRESENCE")

        async def written() -> bool:
            try:
                return await keys(market.client) == 1
            except jetstream.StreamMissing:
                return False

        await until(written, seconds=20, what="the page is there again")
        await here.enter()
        await there.sees("b1", "n1", seconds=20)
        assert here.told == [("join", "n1"), ("join", "b1")]


async def test_members_are_listed_over_http_by_pages_to_who_may_see_them(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        pair(market, fresh_nats) as (first, second),
        contextlib.AsyncExitStack() as stack,
        first.http as http,
    ):
        for number in range(5):
            person = await stack.enter_async_context(attending(second, f"root{number}", "admin", channel))
            await person.enter(number)

        async def page(sub: str = "b1", role: str = "buyer", **query: str) -> dict[str, object]:
            answer = await http.get(f"/v1/channels/{channel}/presence", params=query, headers=bearer(sub, role))
            return {"status": answer.status_code, **answer.json()}

        async def whole() -> bool:
            return len((await page())["members"]) == 5  # type: ignore[arg-type]

        await until(whole, what="all are stored")
        found = await page(limit="2")
        assert found["members"] == [{"sub": f"root{n}", "role": "admin", "data": n} for n in (0, 1)]
        rest = await page(limit="10", after=str(found["next"]))
        assert [one["sub"] for one in rest["members"]] == ["root2", "root3", "root4"]  # type: ignore[attr-defined]
        assert "next" not in rest
        assert (await page("b2"))["members"] == []
        assert (await page("b1", "service"))["code"] == "forbidden"
        assert (await page(limit="0"))["code"] == "invalid_parameter"
        assert first.replica is not None
        assert first.replica.presence.watched == 0


async def test_however_many_members_a_replica_has_it_renews_one_lease(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with running_gateway(fresh_nats.url, **SHORT) as gateway, contextlib.AsyncExitStack() as stack:
        people = [await stack.enter_async_context(attending(gateway, f"root{n}", "admin", channel)) for n in range(20)]
        for person in people:
            await person.enter()
        await people[0].sees(*(f"root{n}" for n in range(20)))
        written: list[str] = []

        async def note(message: object) -> None:
            written.append(message.subject)  # type: ignore[attr-defined]

        await settled(seconds=0.5)
        await market.client.subscribe("$KV.PRESENCE.>", cb=note)
        await until(lambda: len(written) >= 3, what="the lease is renewed")
        assert {one.split(".")[2] for one in written} == {"lease"}


async def test_members_and_signals_cross_from_region_to_hub_and_back(tmp_path: Path) -> None:
    async with hub_and_regions(tmp_path, "eu") as (site, market), site.relay("eu"):
        channel = await deal(market)
        await mirrored(site, market, "eu")
        async with (
            running_gateway(site.hub.url, region="hub", **SHORT) as hub,
            running_gateway(site.regions["eu"].url, region="eu", hub_domain=HUB, **SHORT) as region,
            attending(hub, "b1", "buyer", channel) as there,
            attending(region, "n1", "node", channel) as here,
        ):
            await here.enter("in the region")
            await there.enter("at the hub")
            for person in (here, there):
                await person.sees("b1", "n1")
                assert person.members == {"b1": "at the hub", "n1": "in the region"}
            await here.signal()
            await there.hears()
            await there.signal()
            await here.hears()
            await here.leave()
            await there.sees("b1")
