"""Publishers in a region: what they decide on is the hub's stream, whatever the mirror beside them has."""

from collections.abc import AsyncIterator

import pytest

from contracts.topology import ROUTES, stores
from services.chassis import jetstream
from tests.harness.events import event, fresh
from tests.harness.ingest import publishing as ingesting
from tests.harness.marketplace import Marketplace
from tests.harness.publishers import publishing
from tests.harness.region import hub_and_regions, mirrored, starve
from tests.harness.sites import HUB, Sites
from tests.harness.streams import all_of, looking_at
from tests.harness.waiting import until


@pytest.fixture
async def sited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Sites, Marketplace]]:
    async with hub_and_regions(tmp_path_factory.mktemp("region"), "eu") as (site, market):
        await jetstream.ensure(market.client, stores())
        yield site, market


async def test_a_deal_is_made_in_a_region_whose_mirror_stands_still(sited: tuple[Sites, Marketplace]) -> None:
    site, market = sited
    await market.orders(5)
    async with site.relay("eu"):
        await mirrored(site, market, "eu")
    await starve(market, "eu")  # and nobody repairs it: a service that read the mirror would never see its own events
    eu = site.regions["eu"].url
    ada, oslo = fresh("buyer"), fresh("node")
    async with publishing(eu, "deals", "orders", "payments", region="eu", hub_domain=HUB) as services:
        intent = (await services.ask(services.desk.intent(ada)))["id"]
        quote = (await services.ask(services.desk.quote(oslo, intent)))["id"]
        negotiation = (await services.ask(services.desk.start(ada, intent, quote)))["id"]
        await services.ask(services.desk.accept("node", oslo, negotiation))
        async with looking_at(site.hub.url) as client:

            async def is_asked_for() -> bool:
                kinds = [one.document["type"] for one in await all_of(client, f"market.{intent}.>")]
                return kinds[-2:] == ["ORDER_CREATED", "PAYMENT_REQUESTED"]

            await until(is_asked_for, what="the reactions in the region have run", seconds=30)
            noted = await client.jetstream().get_last_msg(f"KV_{ROUTES}", f"$KV.{ROUTES}.intent.{intent}")
            assert intent.encode() in (noted.data or b"")
    async with looking_at(eu) as client:
        assert (await jetstream.state(client, "MARKET")).last == 5
        names = {found.config.name for found in await client.jetstream().streams_info()}
        assert names == {"MARKET", "PLANS", *(name for name in names if name in ("CONTROL", "CANARY"))}


async def test_ingest_in_a_region_acknowledges_by_the_hubs_cursor_and_says_when_the_line_is_cut(
    sited: tuple[Sites, Marketplace],
) -> None:
    site, market = sited
    eu = site.regions["eu"]
    async with ingesting(eu.url, region="eu", hub_domain=HUB, store_deadline_s=1) as ingest:
        await ingest.ready()
        first = event("ORDER_CREATED", buyer=fresh("buyer"))
        (stored,) = (await ingest.batch([first])).json()
        assert stored == {"id": first["id"], "cursor": await market.cursor(), "duplicate": False}
        (again,) = (await ingest.batch([first])).json()
        assert (again["cursor"], again["duplicate"]) == (stored["cursor"], True)
        eu.link.sever()
        lost = event("ORDER_CREATED", buyer=fresh("buyer"))
        refused = await ingest.one(lost)
        assert refused.status_code == 503
        eu.link.heal()
        await site.linked("eu")
        assert (await ingest.one(lost)).status_code in (200, 201)
        assert (await market.state()).last == 2
