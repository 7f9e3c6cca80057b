"""A client carries its cursor from site to site while events go on: nothing is missing, nothing comes twice."""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.events import event
from tests.harness.gateway import Gateway, GatewayProcess
from tests.harness.marketplace import Marketplace
from tests.harness.region import hub_and_regions, mirrored
from tests.harness.sites import HUB, Sites

BUYER = "b1"
CHANNEL = f"buyer:{BUYER}"
ROUTE = ("hub", "eu", "us", "eu")


@contextlib.asynccontextmanager
async def gateways(site: Sites, market: Marketplace, *regions: str) -> AsyncIterator[dict[str, Gateway]]:
    """A gateway at the hub and one in each region, as processes of their own; the relays run in this one."""
    processes = {"hub": GatewayProcess(site.hub.url, A2A_REGION="hub")}
    async with contextlib.AsyncExitStack() as stack:
        for name in regions:
            await stack.enter_async_context(site.relay(name))
            await mirrored(site, market, name)
            processes[name] = GatewayProcess(site.regions[name].url, A2A_REGION=name, A2A_HUB_DOMAIN=HUB)
        try:
            found = await asyncio.gather(*(process.start() for process in processes.values()))
            yield dict(zip(processes, found, strict=True))
        finally:
            for process in processes.values():
                process.kill()


async def publish(market: Marketplace, rate: float, until: asyncio.Event, published: list[str]) -> None:
    """Store events at this rate; their ids in the order of the stream."""
    stored: dict[int, str] = {}

    async def one(document: dict[str, Any]) -> None:
        stored[await market.publish(document, seconds=30)] = document["id"]

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in itertools.count():
            if until.is_set():
                break
            await asyncio.sleep(began + number / rate - time.monotonic())
            tasks.create_task(one(event("ORDER_CREATED", buyer=BUYER)))
    published.extend(stored[sequence] for sequence in sorted(stored))


async def visit(gateway: Gateway, cursor: str, seconds: float, end: str | None = None) -> tuple[str, list[str]]:
    """Go on from `cursor` for so long, or until `end` has come; the last cursor and the ids that came."""
    ids = []
    async with gateway.websocket(BUYER) as socket:
        await socket.send(op="resume", id=1, channels={CHANNEL: cursor})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and cursor != end:
            with contextlib.suppress(TimeoutError):
                message = await socket.read(max(deadline - time.monotonic(), 0.01))
                assert message["op"] in ("subscribed", "live", "event", "heartbeat"), message
                if message["op"] == "event":
                    ids.append(message["event"]["id"])
                    cursor = message["cursor"]
    return cursor, ids


async def moved(folder: Path, moves: int, rate: float, stay_seconds: float) -> None:
    async with (
        hub_and_regions(folder, "eu", "us") as (site, market),
        gateways(site, market, "eu", "us") as found,
    ):
        cursor, enough = await market.cursor(0), asyncio.Event()
        seen: list[str] = []
        published: list[str] = []
        publishing = asyncio.create_task(publish(market, rate, enough, published))
        for _, name in zip(range(moves), itertools.cycle(ROUTE), strict=False):
            cursor, ids = await visit(found[name], cursor, stay_seconds)
            seen += ids
        enough.set()
        await publishing
        for name in ("us", "eu"):
            cursor, ids = await visit(found[name], cursor, 30, await market.cursor())
            seen += ids
        assert seen == published
        assert len(seen) > moves * rate * stay_seconds * 0.5


async def test_a_client_that_moves_between_hub_and_regions_misses_nothing_and_gets_nothing_twice(
    tmp_path: Path,
) -> None:
    await moved(tmp_path, 5, 100, 0.3)


@pytest.mark.endurance
async def test_twenty_rounds_under_five_hundred_events_a_second(tmp_path: Path) -> None:
    await moved(tmp_path, 20 * (len(ROUTE) - 1), 500, 1.0)


async def arrivals(gateway: Gateway, count: int, ready: "asyncio.Barrier") -> dict[str, float]:
    """When each of so many events came, by id."""
    found: dict[str, float] = {}
    async with gateway.websocket(BUYER) as socket:
        await socket.subscribe(CHANNEL)
        await ready.wait()
        while len(found) < count:
            message = await socket.read(30)
            if message["op"] == "event":
                found[message["event"]["id"]] = time.monotonic()
    return found


@pytest.mark.endurance
async def test_a_region_adds_at_most_a_millisecond_and_a_half_on_one_machine(tmp_path: Path) -> None:
    count = 3000
    async with hub_and_regions(tmp_path, "eu") as (site, market), gateways(site, market, "eu") as found:
        ready = asyncio.Barrier(3)
        at = [asyncio.create_task(arrivals(found[name], count, ready)) for name in ("hub", "eu")]
        await ready.wait()
        for _ in range(count):
            await market.publish(event("ORDER_CREATED", buyer=BUYER))
            await asyncio.sleep(0.005)
        hub, eu = [await task for task in at]
    added = sorted((eu[name] - hub[name]) * 1000 for name in hub)
    print(f"added by the region: p50 {statistics.median(added):.2f} ms, p99 {added[int(count * 0.99)]:.2f} ms")
    assert statistics.median(added) <= 1.5
