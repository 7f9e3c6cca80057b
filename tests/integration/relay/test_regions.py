"""A region's mirrors against real nats-servers: a hub and a leaf, its link on a line that can be cut."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.topology import EPOCH
from services.chassis.jetstream import StreamMissing, bucket_subject, request, state
from services.relay import regions
from services.relay.regions import RegionReconciler
from tests.harness.marketplace import Marketplace, marketplace
from tests.harness.sites import HUB, SPECS, Sites, sites
from tests.harness.streams import looking_at
from tests.harness.waiting import until


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Sites]:
    async with sites(tmp_path, "eu") as found:
        yield found


@pytest.fixture
async def market(both: Sites) -> AsyncIterator[Marketplace]:
    async with marketplace(both.hub.url) as found:
        yield found


@pytest.fixture
async def eu(both: Sites) -> AsyncIterator[Client]:
    async with looking_at(both.regions["eu"].url) as client:
        yield client


async def equal(market: Marketplace, eu: Client, seconds: float = 30) -> None:
    """Wait until the region holds what the hub holds, by count and bounds, of the same life."""

    async def is_so() -> bool:
        try:
            hub, mirror = await market.state(), await state(eu, "MARKET")
        except Exception:
            return False
        held = [(found.epoch, found.first, found.last, found.messages) for found in (hub, mirror)]
        return held[0] == held[1]

    await until(is_so, seconds=seconds, what="the mirror is a copy of the hub's stream")


async def config(client: Client, stream: str = "MARKET") -> dict[str, Any]:
    found: dict[str, Any] = (await request(client, f"STREAM.INFO.{stream}"))["config"]
    return found


async def test_an_empty_region_gets_its_mirrors_which_keep_the_hubs_sequences_and_epoch(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    await market.orders(100)
    await market.purge(keep=40)
    async with both.relay("eu"):
        await equal(market, eu)
        assert (await state(eu, "MARKET")).first == 61
        assert (await config(eu))["metadata"][EPOCH] == (await market.state()).epoch
        assert not (await config(eu))["mirror_direct"]


async def test_what_is_published_in_the_region_is_stored_at_the_hub_and_comes_back(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    async with both.relay("eu"):
        answer = await eu.request("market.i.b.n.order.o", b"{}")
        assert b'"domain":"hub"' in answer.data
        await equal(market, eu)


@pytest.mark.parametrize("lost", ["consumer", "mirror", "both"])
async def test_what_is_deleted_is_made_again_and_filled(
    both: Sites, market: Marketplace, eu: Client, lost: str
) -> None:
    await market.orders(50)
    async with both.relay("eu"):
        await equal(market, eu)
        if lost != "mirror":
            await request(market.client, "CONSUMER.DELETE.MARKET.mirror_eu")
        if lost != "consumer":
            await request(eu, "STREAM.DELETE.MARKET")
        await market.orders(10)
        await equal(market, eu)


@pytest.mark.parametrize("lost", ["consumer", "mirror", "both", "life"])
async def test_relays_that_die_after_each_step_end_with_a_mirror_that_is_fed(
    both: Sites, market: Marketplace, eu: Client, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    await market.orders(50)
    async with both.relay("eu"):
        await equal(market, eu)
    if lost in ("consumer", "both"):
        await request(market.client, "CONSUMER.DELETE.MARKET.mirror_eu")
    if lost in ("mirror", "both"):
        await request(eu, "STREAM.DELETE.MARKET")
    if lost == "life":
        await market.remake()
    await market.orders(5)
    monkeypatch.setattr(regions, "_MOST_STEPS", 1)
    for _ in range(4):  # as many as there are: mirror away, consumer away, consumer, mirror
        await RegionReconciler(eu, SPECS, region="eu", hub_domain=HUB).round()
    await equal(market, eu)


async def test_a_mirror_that_is_gone_is_told_as_a_repair_and_one_that_never_was_is_not(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    await market.orders(5)
    relay = RegionReconciler(eu, SPECS, region="eu", hub_domain=HUB)
    assert [report.repaired for report in await relay.round()] == [None] * len(SPECS)
    await equal(market, eu)
    await request(eu, "STREAM.DELETE.MARKET")
    assert [report.repaired for report in await relay.round()] == ["lost", *[None] * (len(SPECS) - 1)]
    await equal(market, eu)
    await request(market.client, "CONSUMER.DELETE.MARKET.mirror_eu")
    assert (await relay.round())[0].repaired == "not_fed"
    await equal(market, eu)


async def test_a_consumer_whose_settings_were_changed_is_corrected_and_its_mirror_kept(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    await market.orders(5)
    relay = RegionReconciler(eu, SPECS, region="eu", hub_domain=HUB)
    await relay.round()
    await equal(market, eu)
    made = (await request(eu, "STREAM.INFO.MARKET"))["created"]
    subject = "CONSUMER.CREATE.MARKET.mirror_eu"
    found = (await request(market.client, "CONSUMER.INFO.MARKET.mirror_eu"))["config"]
    change = {"stream_name": "MARKET", "config": {**found, "max_ack_pending": 1000}, "action": "update"}
    assert (await request(market.client, subject, change))["config"]["max_ack_pending"] == 1000
    assert (await relay.look())[0].wrong == ["max_ack_pending differs"]
    assert (await relay.round())[0].repaired is None
    assert (await request(market.client, "CONSUMER.INFO.MARKET.mirror_eu"))["config"] == found
    await market.orders(5)
    await equal(market, eu)
    assert (await request(eu, "STREAM.INFO.MARKET"))["created"] == made


async def test_a_wiped_store_is_filled_again(both: Sites, market: Marketplace, eu: Client) -> None:
    await market.orders(50)
    async with both.relay("eu"):
        await equal(market, eu)
        nats = both.regions["eu"].nats
        nats.kill()
        shutil.rmtree(nats.folder / "jetstream")
        nats.start()
        await market.orders(10)
        await equal(market, eu)


async def test_a_stream_that_is_made_again_at_the_hub_is_made_again_in_the_region(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    await market.orders(50)
    async with both.relay("eu"):
        await equal(market, eu)
        before = (await state(eu, "MARKET")).epoch
        await market.remake()
        await market.orders(3)
        await equal(market, eu)
        assert before < (await state(eu, "MARKET")).epoch


async def test_a_cut_leaves_the_mirror_as_it_is_and_heals_without_making_it_again(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    async with both.relay("eu") as relay:
        await market.orders(20)
        await equal(market, eu)
        made = (await request(eu, "STREAM.INFO.MARKET"))["created"]
        both.regions["eu"].link.sever()
        await market.orders(20)
        (report, *_) = await relay.look()
        assert not report.is_linked
        assert report.mirror is not None
        assert report.mirror.messages == 20
        both.regions["eu"].link.heal()
        await equal(market, eu)
        assert (await request(eu, "STREAM.INFO.MARKET"))["created"] == made


async def test_a_mirror_that_is_cut_off_is_kept_from_giving_its_consumer_up(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    async def silent_seconds() -> float:
        return float((await request(eu, "STREAM.INFO.MARKET"))["mirror"]["active"]) / 1e9

    async with both.relay("eu"):
        await market.orders(3)
        await equal(market, eu)
        both.regions["eu"].link.sever()
        await asyncio.sleep(3)  # the hub's own heartbeats come every second
        assert 0 <= await silent_seconds() < 2
        await market.orders(3)
        both.regions["eu"].link.heal()
        await equal(market, eu)


async def test_four_relays_at_once_end_with_one_mirror_that_is_fed(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    await market.orders(50)
    relays = [RegionReconciler(eu, SPECS, region="eu", hub_domain=HUB) for _ in range(4)]
    await asyncio.gather(*(relay.round() for relay in relays))
    for relay in relays:
        assert all(report.is_as_declared for report in await relay.round())
    await market.orders(5)
    await equal(market, eu)


async def test_a_relay_that_bears_another_regions_name_touches_nothing(
    both: Sites, market: Marketplace, eu: Client
) -> None:
    relay = RegionReconciler(eu, SPECS, region="us", hub_domain=HUB)
    for report in await relay.round():
        assert "JetStream domain is eu, and A2A_REGION is us" in report.wrong[0]
    assert (await request(market.client, "CONSUMER.LIST.MARKET"))["total"] == 0
    with pytest.raises(StreamMissing):
        await state(eu, "MARKET")


async def test_a_bucket_of_the_hub_is_written_and_watched_from_the_region(market: Marketplace, eu: Client) -> None:
    await market.client.jetstream().create_key_value(bucket="T")
    bucket = await eu.jetstream(domain=HUB).key_value("T")
    watcher: Any = await bucket.watchall()
    await eu.jetstream().publish(f"{bucket_subject('T', HUB)}k", b"v")
    assert (await bucket.get("k")).value == b"v"
    assert await watcher.updates(timeout=5) is None  # the end of what was there before
    found = await watcher.updates(timeout=5)
    assert found is not None
    assert (found.key, found.value) == ("k", b"v")
    await watcher.stop()
