"""A feed that is passed over: what was deleted is no event any more, what was let go before it came is to be named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from contracts.channels import CHANNELS, Channels
from services.chassis.telemetry import logger
from services.gateway.bus.decode import Decoder
from services.gateway.bus.feed import _Broken, _Consumer
from services.gateway.core.replica import Tally
from services.gateway.core.stream import Stream
from tests.harness.archive import FakeArchive
from tests.harness.marketplace import Marketplace
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def followed(market: Marketplace, start: int) -> AsyncIterator[tuple[Stream, "asyncio.Task[None]"]]:
    """A stream that one consumer follows from there, whatever the bounds are."""
    stream = Stream("MARKET", "market.>", 10**6, FakeArchive("MARKET"), lambda _: None, lambda *_: None)
    stream.open((await market.state()).epoch, start)
    tally = Tally()
    decoder = Decoder("MARKET", Channels(CHANNELS), tally, logger("test"))
    consumer = _Consumer(market.client, stream, decoder, tally)
    await consumer.open()
    watching = asyncio.create_task(consumer.watch())
    try:
        yield stream, watching
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await consumer.close()


async def test_what_was_deleted_in_the_middle_holds_nothing_up(market: Marketplace) -> None:
    await market.orders(10)
    await market.delete(3, 4, 8)
    async with followed(market, 0) as (stream, _):
        await until(lambda: stream.log.high == 10, what="all is taken")
        page = stream.log.page(0)
        assert page is not None
        assert [entry.sequence for entry in page.entries] == [1, 2, 5, 6, 7, 9, 10]


async def test_what_was_let_go_before_it_came_is_not_passed_over_in_silence(market: Marketplace) -> None:
    await market.orders(10)
    async with followed(market, 2) as (stream, watching):
        await until(lambda: stream.log.high == 10, what="all is taken")
    await market.orders(10)
    await market.purge(keep=5)
    async with followed(market, 10) as (stream, watching):
        await asyncio.wait([watching], timeout=10)
        assert isinstance(watching.exception(), _Broken)
    assert stream.log.high == 10
