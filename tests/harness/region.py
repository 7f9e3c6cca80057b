"""A region as its clients see it: a hub with its streams, mirrors kept by a relay, and a gateway that reads them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from contracts.topology import EPOCH
from services.chassis.jetstream import request, state
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace, marketplace
from tests.harness.sites import HUB, Sites, sites
from tests.harness.streams import looking_at
from tests.harness.waiting import until


@contextlib.asynccontextmanager
async def regional_gateway(site: Sites, name: str, **changes: Any) -> AsyncIterator[Gateway]:
    """A ready gateway in that region; its mirrors are there."""
    async with running_gateway(site.regions[name].url, region=name, hub_domain=HUB, **changes) as gateway:
        yield gateway


@contextlib.asynccontextmanager
async def hub_and_regions(folder: Path, *names: str) -> AsyncIterator[tuple[Sites, Marketplace]]:
    """Sites whose hub has its streams; the marketplace publishes there."""
    async with sites(folder, *names) as site, marketplace(site.hub.url) as market:
        yield site, market


async def mirrored(site: Sites, market: Marketplace, name: str, seconds: float = 30) -> None:
    """Wait until the region's mirror has got to the end of the hub's stream."""
    async with looking_at(site.regions[name].url) as client:

        async def is_level() -> bool:
            with contextlib.suppress(Exception):
                return (await state(client, "MARKET")).last >= (await market.state()).last
            return False

        await until(is_level, seconds=seconds, what=f"{name} has what the hub has")


async def trim(site: Sites, name: str, keep: int, stream: str = "MARKET") -> None:
    """The region's mirror keeps its latest events alone, as its own retention would have it."""
    async with looking_at(site.regions[name].url) as client:
        await client.jetstream().purge_stream(stream, keep=keep)


async def lose(site: Sites, name: str, *sequences: int, stream: str = "MARKET") -> None:
    """The region's mirror has lost these in its middle."""
    async with looking_at(site.regions[name].url) as client:
        for sequence in sequences:
            await client.jetstream().delete_msg(stream, sequence)


async def delete_mirror(site: Sites, name: str, stream: str = "MARKET") -> None:
    """The region has lost its mirror."""
    async with looking_at(site.regions[name].url) as client:
        await client.jetstream().delete_stream(stream)


async def starve(market: Marketplace, name: str, stream: str = "MARKET") -> None:
    """The hub forgets whom it feeds: the region's mirror stands still until its relay notices."""
    await market.jetstream.delete_consumer(stream, f"mirror_{name}")


async def filtered(site: Sites, name: str, subject: str, stream: str = "MARKET") -> None:
    """Somebody made the region's mirror by hand, of a part of the stream alone."""
    async with looking_at(site.regions[name].url) as client:
        found = await state(client, stream)
        await request(client, f"STREAM.DELETE.{stream}")
        source = {"name": stream, "external": {"api": f"$JS.{HUB}.API"}, "filter_subject": subject}
        config = {"name": stream, "mirror": source, "allow_direct": True, "metadata": {EPOCH: found.epoch}}
        await request(client, f"STREAM.CREATE.{stream}", config)
