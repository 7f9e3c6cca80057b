"""A hub of three: the leader of MARKET is killed under load; each region has all that was acknowledged, in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.client import Client

from contracts.topology import StreamSpec, canaries, fleet, streams
from services.chassis.jetstream import ensure, request
from services.relay.regions import RegionReconciler
from tests.harness.deployed import Deployment, Server, deployment
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.streams import looking_at
from tests.harness.waiting import until
from tests.harness.witness import Witness, stress

pytestmark = [pytest.mark.chaos, pytest.mark.endurance, pytest.mark.timeout(300)]

REGIONS = ("eu", "us")
BUYER = "b1"
MARKET_BYTES = 256 * 1024**2


def specs(replicas: int = 1) -> tuple[StreamSpec, ...]:
    """What a region mirrors."""
    events = streams(market_max_bytes=MARKET_BYTES, replicas=replicas)
    return (*events, *fleet(replicas=replicas), *canaries(replicas=replicas))


@dataclass(frozen=True, slots=True)
class Following:
    """A region: its gateway, and a connection to its server."""

    gateway: Gateway
    client: Client

    async def mirrors_made(self) -> list[str]:
        """When each of its mirrors was made."""
        return [(await request(self.client, f"STREAM.INFO.{spec.name}"))["created"] for spec in specs()]


@contextlib.asynccontextmanager
async def following(deployed: Deployment, name: str) -> AsyncIterator[Following]:
    """A region with its relay and its gateway."""
    server = deployed.region(name)
    server.start()
    try:
        await server.healthy()
        async with looking_at(server.url) as client:
            relay = RegionReconciler(client, specs(), region=name, hub_domain="hub")

            async def is_made() -> bool:
                return all(report.is_as_declared for report in await relay.round())

            await until(is_made, seconds=60, what=f"{name} has its mirrors")
            looking = asyncio.create_task(_look(relay))
            try:
                async with running_gateway(server.url, region=name, hub_domain="hub", declare=False) as gateway:
                    yield Following(gateway, client)
            finally:
                looking.cancel()
                await asyncio.wait([looking])
    finally:
        server.kill()


async def _look(relay: RegionReconciler) -> None:
    while True:
        await asyncio.sleep(1)
        with contextlib.suppress(Exception):
            await relay.round()


async def leader(market: Marketplace) -> str:
    """The server that leads MARKET now."""
    found: list[str] = []

    async def is_known() -> bool:
        with contextlib.suppress(Exception):
            info = await request(market.client, "STREAM.INFO.MARKET", seconds=1)
            found.append(info["cluster"].get("leader", ""))
        return bool(found and found[-1])

    await until(is_known, seconds=60, what="MARKET has a leader")
    return found[-1]


async def kill_leader(deployed: Deployment, market: Marketplace) -> Server:
    server = deployed.hub[await leader(market)]
    await asyncio.to_thread(server.kill)
    return server


async def test_the_streams_leader_killed_under_load_loses_nothing_in_any_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        deployed = stack.enter_context(deployment(tmp_path))
        monkeypatch.setenv("SSL_CERT_FILE", str(deployed.certificates.authority))
        for server in deployed.hub.values():
            await server.healthy()
        market = Marketplace(await stack.enter_async_context(looking_at(deployed.hub["hub-1"].url)))
        await ensure(market.client, specs(replicas=3))
        regions = {name: await stack.enter_async_context(following(deployed, name)) for name in REGIONS}
        seen = {name: Witness(BUYER) for name in REGIONS}

        def gateway_of(name: str) -> Callable[[], Gateway]:
            return lambda: regions[name].gateway

        tasks = [asyncio.create_task(seen[name].over_websocket(gateway_of(name))) for name in REGIONS]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await until(lambda: all(one.live for one in seen.values()), seconds=30, what="a client is live in each region")
        made = {name: await one.mirrors_made() for name, one in regions.items()}
        async with stress(market, BUYER) as load:
            for _ in range(2):
                await load.more(500, seconds=60)
                began = time.monotonic()
                killed = await kill_leader(deployed, market)
                await load.more(1, seconds=60)
                print(f"{killed.name} led and was killed: acknowledged again after {time.monotonic() - began:.1f} s")
                await load.more(500, seconds=60)
                killed.start()
                await killed.healthy()
            await load.stop()
        for name, one in seen.items():
            await one.saw(load.acknowledged, seconds=60)
            assert one.connects == 1
            assert await regions[name].mirrors_made() == made[name], "a new leader is no reason to fill a mirror again"
            print(f"{name}: {len(one.seen)} of {len(load.acknowledged)} acknowledged events, in order")
