"""The relay of a region as a process: readiness over a cut, the table of all regions, a hub that was restored."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.topology import EPOCH
from services.chassis.jetstream import request, state
from tests.harness.marketplace import Marketplace, marketplace
from tests.harness.relay import Relay, environment, eventually, run
from tests.harness.sites import HUB, Sites, sites
from tests.harness.streams import looking_at


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Sites]:
    async with sites(tmp_path, "eu") as found:
        yield found


@pytest.fixture
async def market(both: Sites) -> AsyncIterator[Marketplace]:
    async with marketplace(both.hub.url) as found:
        yield found


def of_region(both: Sites, **differing: str) -> dict[str, str]:
    return environment(both.regions["eu"].nats, REGION="eu", HUB_DOMAIN=HUB, **differing)


async def test_a_region_is_ready_with_its_mirrors_not_during_a_cut_and_again_after_it(
    both: Sites, market: Marketplace
) -> None:
    await market.orders(5)
    relay = Relay()
    try:
        await relay.start(of_region(both, REGION_BEHIND_S="0.5"))
        facts = await relay.until_ready()
        assert (facts["region"], facts["hub"]) == ("eu", "answers")
        assert facts["epochs"]["MARKET"] == (await market.state()).epoch
        both.regions["eu"].link.sever()
        facts = await relay.until_ready(ready=False)
        assert "s behind the hub" in facts["failing"]["streams"]
        assert "a2a_region_linked 0.0" in (await relay.get("/metrics")).text
        both.regions["eu"].link.heal()
        await relay.until_ready()
        told = (await relay.get("/metrics")).text
        for line in ("a2a_region_linked 1.0", "a2a_region_late 0.0", 'a2a_mirror_lag_messages{stream="MARKET"} 0.0'):
            assert line in told
    finally:
        assert (await relay.end())[0] == 0
        relay.listener.close()


async def test_a_region_that_starts_before_its_hub_is_in_reach_says_so_and_follows_once_it_is(
    both: Sites, market: Marketplace
) -> None:
    await market.orders(5)
    both.regions["eu"].link.sever()
    code, _, told = await run("--once", **of_region(both))
    assert (code, told) == (1, "error: the hub does not answer through the leaf node\n")
    relay = Relay()
    try:
        await relay.start(of_region(both))

        async def is_told() -> bool:
            return "the hub has not been reached yet" in str((await relay.readiness())["failing"])

        await eventually(is_told)
        assert "a2a_region_behind_seconds -1.0" in (await relay.get("/metrics")).text
        both.regions["eu"].link.heal()
        facts = await relay.until_ready()
        assert facts["epochs"]["MARKET"] == (await market.state()).epoch
    finally:
        assert (await relay.end())[0] == 0
        relay.listener.close()


async def test_once_makes_the_mirrors_and_status_shows_all_regions_at_every_site(
    both: Sites, market: Marketplace
) -> None:
    await market.orders(5)
    assert (await run("--once", **of_region(both)))[:2] == (0, "")

    async def is_level_in_both_tables() -> bool:
        at_hub = await run("--status", **environment(both.hub))
        in_region = await run("--status", **of_region(both))
        lines = [line.split() for line in in_region[1].splitlines()]
        assert lines[0][:2] == ["REGION", "STREAM"]
        regions = at_hub[1][at_hub[1].index("REGION") :]
        assert [line.split()[:6] for line in regions.splitlines()] == [line[:6] for line in lines]
        return in_region[0] == 0 and ["eu", "MARKET", "level"] in [[*line[:2], line[-1]] for line in lines]

    await eventually(is_level_in_both_tables)


async def test_a_region_that_is_away_is_in_the_table_with_what_the_hub_knows(both: Sites, market: Marketplace) -> None:
    assert (await run("--once", **of_region(both)))[0] == 0
    both.regions["eu"].link.sever()
    await market.orders(3)
    code, told, _ = await run("--status", **environment(both.hub))
    assert code == 1
    (line,) = [line for line in told.splitlines() if line.startswith("eu      MARKET")]
    assert line.endswith("does not answer")


async def test_a_region_that_is_cut_off_shows_itself(both: Sites, market: Marketplace) -> None:
    assert (await run("--once", **of_region(both)))[0] == 0
    both.regions["eu"].link.sever()
    code, told, error = await run("--status", **of_region(both))
    assert (code, error) == (1, "error: the hub does not answer through the leaf node; this region alone is shown\n")
    rows = [line.split() for line in told.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["eu", name] for name in ("MARKET", "PLANS", "CONTROL", "CANARY")]
    assert all(line.endswith("no hub") for line in told.splitlines()[1:])


async def test_a_hub_that_lost_events_is_told_and_a_new_epoch_makes_the_region_follow_again(
    both: Sites, market: Marketplace
) -> None:
    await market.orders(5)
    assert (await run("--once", **of_region(both)))[0] == 0
    async with looking_at(both.regions["eu"].url) as eu:

        async def has_all() -> bool:
            return (await state(eu, "MARKET")).messages == 5

        await eventually(has_all)
        old = (await market.state()).config
        for name in ("MARKET_REPLAY", "MARKET"):
            await request(market.client, f"STREAM.DELETE.{name}")
        await request(market.client, "STREAM.CREATE.MARKET", dict(old))  # as from a backup: the epoch it had
        await market.orders(2)
        code, _, told = await run("--once", **of_region(both))
        assert code == 1
        assert "beyond the hub's end" in told
        assert (await state(eu, "MARKET")).messages == 5, "what may be the last copy is kept"
        code, said, _ = await run("--new-epoch", "MARKET", **environment(both.hub))
        assert code == 0
        assert old["metadata"][EPOCH] in said
        assert (await run("--once", **of_region(both)))[0] == 0

        async def follows() -> bool:
            found = await state(eu, "MARKET")
            return found.messages == 2 and found.epoch == (await market.state()).epoch

        await eventually(follows)


async def test_a_stream_in_a_mirrors_place_is_left_alone_unless_its_replacement_is_allowed(
    both: Sites, market: Marketplace
) -> None:
    async with looking_at(both.regions["eu"].url) as eu:
        await request(eu, "STREAM.CREATE.MARKET", {"name": "MARKET", "subjects": ["mine.>"]})
        await eu.request("mine.one", b"{}")
        code, _, told = await run("--once", **of_region(both))
        assert code == 1
        assert "no mirror of the hub's" in told
        assert (await state(eu, "MARKET")).messages == 1
        assert (await run("--once", "--allow-replace", **of_region(both)))[0] == 0
        assert (await state(eu, "MARKET")).config["mirror"]["name"] == "MARKET"
