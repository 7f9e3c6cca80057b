"""Regions under load: links are cut, hubs and leaves die, stores are wiped; each client sees each event once, in order.

The minutes-long runs print how long it took to catch up: `pytest -m endurance -s tests/chaos/test_regions.py`.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.client import Client

from services.chassis.jetstream import JetStreamError, request, state
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace, marketplace
from tests.harness.relay import Relay, environment
from tests.harness.sites import HUB, Region, Sites, sites
from tests.harness.streams import looking_at
from tests.harness.tokens import bearer
from tests.harness.waiting import until
from tests.harness.witness import Stress, Witness, stress, witnesses

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

# What it took is printed; a machine that does other things as well may take longer than the six that are promised.
CATCH_UP_SECONDS = 20.0
BUYER = "b1"
RATE = 500


@dataclass(frozen=True, slots=True)
class Scene:
    """A hub with two regions, a gateway in each, load at the hub, and two clients in `eu`."""

    sites: Sites
    market: Marketplace
    load: Stress
    eu: Client
    gateway: Gateway
    clients: tuple[Witness, Witness]

    @property
    def region(self) -> Region:
        return self.sites.regions["eu"]

    async def caught_up(self, seconds: float) -> float:
        """Wait until `eu` and each of its clients have what the hub has now; how long that took."""
        began, goal, newest = time.monotonic(), (await self.market.state()).last, self.load.acknowledged[-1]

        async def has_all() -> bool:
            with contextlib.suppress(Exception):
                return (await state(self.eu, "MARKET")).last >= goal
            return False

        await until(has_all, seconds=seconds, what="the region has everything")
        left = seconds - (time.monotonic() - began)
        await until(lambda: all(newest in client.seen for client in self.clients), seconds=left, what="so have clients")
        return time.monotonic() - began

    async def replays(self, seconds: float) -> int:
        """Have somebody new read what the region has, again and again for so long; how often it was answered."""
        deadline, answered = time.monotonic() + seconds, 0
        async with self.gateway.http as http:
            while time.monotonic() < deadline:
                page = await http.get(
                    f"/v1/channels/buyer:{BUYER}/events?after=earliest&limit=50", headers=bearer(BUYER, "buyer")
                )
                assert page.status_code == 200
                ids = [one["event"]["id"] for one in page.json()["events"]]
                assert ids
                assert ids == self.load.acknowledged[: len(ids)]
                answered += 1
                await asyncio.sleep(min(1.0, max(deadline - time.monotonic(), 0)))
        return answered

    async def all_seen(self) -> None:
        """Each client saw, over one connection, everything since its first event."""
        await self.load.stop()
        for client in self.clients:
            # A mirror that lost some is made again, and one that is new not within its first minute.
            await client.saw(self.load.acknowledged[self.load.acknowledged.index(client.seen[0]) :], seconds=150)
            assert client.connects == 1


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        found = await stack.enter_async_context(sites(folder, "eu", "us"))
        market = await stack.enter_async_context(marketplace(found.hub.url))
        gateways: dict[str, Gateway] = {}
        for name, region in found.regions.items():
            await stack.enter_async_context(found.relay(name))
            running = running_gateway(region.url, region=name, hub_domain=HUB, declare=False)
            gateways[name] = await stack.enter_async_context(running)
        eu = await stack.enter_async_context(looking_at(found.regions["eu"].url))
        load = await stack.enter_async_context(stress(market, BUYER, rate=RATE))
        clients = await stack.enter_async_context(witnesses(BUYER, lambda: gateways["eu"]))
        await load.more(50)
        await until(lambda: all(client.seen for client in clients), what="both clients saw an event")
        yield Scene(found, market, load, eu, gateways["eu"], clients)


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("how", "cut_seconds"),
    [
        ("severed", 3),
        ("silent", 3),
        *(
            pytest.param(how, seconds, marks=pytest.mark.endurance)
            for how, seconds in (("severed", 20), ("severed", 60), ("silent", 20))
        ),
    ],
)
async def test_a_link_that_was_cut_under_load_is_caught_up_and_nothing_is_missing(
    on: Scene, how: str, cut_seconds: int
) -> None:
    link = on.region.link
    (link.sever if how == "severed" else link.hush)()
    replays = await on.replays(cut_seconds)
    missing = len(on.load.acknowledged) - len(on.clients[0].seen)
    assert missing > 10, "the load goes on at the hub"
    link.heal()
    took = await on.caught_up(CATCH_UP_SECONDS)
    await on.all_seen()
    print(
        f"link {how} for {cut_seconds} s: {missing} events behind, {replays} replays answered meanwhile, "
        f"caught up {took:.1f} s after healing"
    )


@pytest.mark.parametrize("away_seconds", [1, pytest.param(15, marks=pytest.mark.endurance)])
async def test_a_hub_that_was_killed_is_caught_up_with_and_nothing_is_missing(on: Scene, away_seconds: int) -> None:
    await asyncio.to_thread(on.sites.hub.kill)
    await asyncio.sleep(away_seconds)
    await asyncio.to_thread(on.sites.hub.start)
    await until(lambda: on.market.client.is_connected, seconds=30, what="the publisher is back")
    began = time.monotonic()
    await on.load.more(20, seconds=30)
    await on.caught_up(30)
    await on.all_seen()
    print(f"hub killed {away_seconds} s: caught up {time.monotonic() - began:.1f} s after its publisher was back")


@pytest.mark.parametrize("what", ["killed", "killed and wiped"])
async def test_a_leaf_that_was_killed_is_filled_again_and_its_clients_miss_nothing(on: Scene, what: str) -> None:
    nats = on.region.nats
    await asyncio.to_thread(nats.kill)
    if what == "killed and wiped":
        shutil.rmtree(nats.folder / "jetstream")
    await on.load.more(50, seconds=30)
    await asyncio.to_thread(nats.start)
    took = await on.caught_up(60)
    await on.all_seen()
    print(f"leaf {what}: caught up {took:.1f} s after its start")


async def test_a_second_relay_that_is_killed_while_both_repair_costs_nobody_an_event(on: Scene) -> None:
    environ = environment(on.region.nats, REGION="eu", HUB_DOMAIN=HUB)
    second = Relay()
    try:
        for number in range(4):
            await second.start(environ)
            await second.answers()
            with contextlib.suppress(JetStreamError):  # they may be making it again just now
                if number % 2:
                    await request(on.eu, "STREAM.DELETE.MARKET")
                else:
                    await request(on.market.client, "CONSUMER.DELETE.MARKET.mirror_eu")
            await asyncio.sleep(0.06 * number)  # it dies at another step each time
            await second.kill()
            await on.caught_up(60)
        await on.all_seen()
    finally:
        second.listener.close()


async def test_a_stream_made_again_at_the_hub_is_told_to_the_regions_clients_as_recreated(on: Scene) -> None:
    await on.load.stop()
    newest = on.load.acknowledged[-1]
    await until(lambda: all(client.seen[-1:] == [newest] for client in on.clients), what="both saw the newest event")
    before = (await on.market.state()).epoch
    await on.market.remake()
    (again,) = await on.market.orders(1, buyer=BUYER)

    async def follows() -> bool:
        with contextlib.suppress(JetStreamError):
            return (await state(on.eu, "MARKET")).epoch > before
        return False

    await until(follows, seconds=30, what="the mirror is of the new life")
    await until(lambda: all(client.gaps for client in on.clients), seconds=30, what="a gap is told")
    assert all("recreated" in str(client.gaps[0]) for client in on.clients)
    # What was stored before the gap was told is behind it; what comes now is delivered.
    (later,) = await on.market.orders(1, buyer=BUYER)
    await until(lambda: all(client.seen[-1] == later["id"] for client in on.clients), seconds=30, what="events go on")
    assert all(client.seen.count(again["id"]) <= 1 for client in on.clients)
