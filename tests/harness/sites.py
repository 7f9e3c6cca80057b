"""A hub and its regions as real nats-servers, each leaf's link through a line that a test can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.topology import StreamSpec, canaries, fleet, streams
from services.chassis.jetstream import connect
from services.chassis.tasks import is_wanted
from services.chassis.telemetry import logger
from services.local.embedded import EmbeddedNats, free_port, hub_options, region_options
from services.relay.regions import RegionReconciler
from tests.harness.line import Line
from tests.harness.streams import looking_at
from tests.harness.waiting import until

HUB = "hub"
SPECS = (*streams(market_max_bytes=256 * 1024**2), *fleet(), *canaries())


@dataclass(frozen=True, slots=True)
class Region:
    """One region: its nats-server, and its link to the hub (`sever()`, `heal()`, `answered_bytes`)."""

    name: str
    nats: EmbeddedNats
    link: Line

    @property
    def url(self) -> str:
        """Where the region's own services connect."""
        return self.nats.url


@dataclass(frozen=True, slots=True)
class Sites:
    """The hub, whose JetStream domain is `hub`, and the regions by name, whose domains are these names."""

    hub: EmbeddedNats
    regions: Mapping[str, Region]

    async def linked(self, name: str, seconds: float = 20) -> None:
        """Wait until the hub's JetStream answers in that region."""
        async with looking_at(self.regions[name].url) as client:

            async def answers() -> bool:
                with contextlib.suppress(Exception):
                    await client.request("$JS.hub.API.INFO", b"", timeout=0.5)
                    return True
                return False

            await until(answers, seconds=seconds, what=f"the hub answers in {name}")

    @contextlib.asynccontextmanager
    async def relay(
        self, name: str, specs: Sequence[StreamSpec] = SPECS, *, interval_seconds: float = 0.2
    ) -> AsyncIterator[RegionReconciler]:
        """A region's relay in this process, looking all the while; the mirrors are made when the block begins."""
        client = await connect(self.regions[name].url, name="relay", log=logger("relay"))
        reconciler = RegionReconciler(client, specs, region=name, hub_domain=HUB)

        async def look() -> None:
            while is_wanted():  # a request may swallow the cancellation
                await asyncio.sleep(interval_seconds)
                with contextlib.suppress(Exception):
                    await reconciler.round()

        async def is_made() -> bool:
            return all(report.is_as_declared for report in await reconciler.round())

        looking = None
        try:
            await until(is_made, seconds=20, what=f"{name} has its mirrors")
            looking = asyncio.create_task(look())
            yield reconciler
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.wait([looking])
            await client.close()


@contextlib.asynccontextmanager
async def sites(folder: Path, *names: str) -> AsyncIterator[Sites]:
    """A hub with these regions, all linked; the hub has no streams yet, and no region a mirror."""
    leaf_port = free_port()
    js, server = hub_options(HUB, leaf_port)
    hub = EmbeddedNats(folder / HUB, jetstream_options=js, server_options=server)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(hub.stop)
        hub.start()
        regions = {}
        for name in names:
            link = await stack.enter_async_context(Line(leaf_port).open())
            js, server = region_options(name, link.port)
            nats = EmbeddedNats(folder / name, jetstream_options=js, server_options=server)
            stack.callback(nats.stop)
            regions[name] = Region(name, nats.start(), link)
        found = Sites(hub, regions)
        for name in names:
            await found.linked(name)
        yield found
