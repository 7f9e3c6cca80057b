"""The canary: a region's distance from the hub is measured with no event stored, and no client ever sees it."""

from pathlib import Path

import httpx

from services.chassis.jetstream import state
from tests.harness.gateway import Gateway
from tests.harness.region import hub_and_regions, regional_gateway
from tests.harness.tokens import bearer
from tests.harness.waiting import until


async def figure(http: httpx.AsyncClient, name: str) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{name}{{region="eu"}}'))


async def counted(gateway: Gateway, at_least: int) -> None:
    async with gateway.http as http:

        async def enough() -> bool:
            return await figure(http, "a2a_canary_seconds_count") >= at_least

        await until(enough, seconds=30, what=f"{at_least} canaries have come")


async def test_canaries_are_timed_until_the_line_is_cut_and_again_when_it_is_healed(tmp_path: Path) -> None:
    async with (
        hub_and_regions(tmp_path, "eu") as (site, market),
        site.relay("eu"),
        regional_gateway(site, "eu", canary_s=0.05) as gateway,
        gateway.http as http,
        gateway.websocket("root", "admin") as socket,
    ):
        await socket.subscribe("admin:market", cursor="earliest")
        await counted(gateway, 5)
        assert 0 <= await figure(http, "a2a_canary_seconds_sum") < 5 * 30
        site.regions["eu"].link.sever()
        lost = await figure(http, "a2a_canaries_lost_total")

        async def is_noticed() -> bool:
            return await figure(http, "a2a_canaries_lost_total") > lost

        await until(is_noticed, seconds=20, what="a canary is lost")
        before = int(await figure(http, "a2a_canary_seconds_count"))
        site.regions["eu"].link.heal()
        await counted(gateway, before + 3)
        assert 0 <= await figure(http, "a2a_canary_age_seconds") < 30
        # Nobody has seen one, nobody can ask for one, and the market has not grown.
        answer = await http.get("/v1/channels/canary:eu/events", headers=bearer("root", "admin"))
        assert answer.status_code == 404
        assert (await market.state()).last == 0
        assert (await state(market.client, "CANARY")).last > 0
        (document,) = await market.orders(1)
        message = await socket.read(30)
        assert (message["op"], message["event"]["id"]) == ("event", document["id"])
        assert set((await socket.ask(op="heartbeat"))["cursors"]) == {"MARKET"}


async def test_a_gateway_that_is_told_so_sends_none(tmp_path: Path) -> None:
    async with (
        hub_and_regions(tmp_path, "eu") as (site, market),
        site.relay("eu"),
        regional_gateway(site, "eu", canary_s=0) as gateway,
        gateway.http as http,
    ):
        assert "a2a_canary" not in (await http.get("/metrics")).text
        assert (await state(market.client, "CANARY")).last == 0
