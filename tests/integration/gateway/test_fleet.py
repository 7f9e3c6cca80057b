"""Several replicas are one: what a principal holds on all of them counts, and an admin sees and closes any of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.gateway.bus import fleet as asking
from tests.harness.events import fresh
from tests.harness.fleet import ADMIN, fleet, gossip_of, listed, replica_of
from tests.harness.gateway import Gateway, GatewayProcess, Socket, running_gateway
from tests.harness.line import Line
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import freeze, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(nats_server: str) -> AsyncIterator[list[Gateway]]:
    async with fleet(nats_server, 2, max_connections_per_principal=3) as found:
        yield found


async def heard(gateway: Gateway, sub: str, count: int) -> None:
    """Until it knows of so many elsewhere."""

    def elsewhere() -> int:
        return sum(one.counts[sub][0] for one in replica_of(gateway).headcount.others.values() if sub in one.counts)

    await until(lambda: elsewhere() == count, what=f"{count} are known")


async def test_connections_on_all_replicas_count(replicas: list[Gateway], publisher: Marketplace) -> None:
    here, there = replicas
    who = fresh("buyer")
    async with here.websocket(who), here.events(f"channel=buyer:{who}", who) as blocks, there.websocket(who) as last:
        await blocks.read_until("live")
        await heard(here, who, 1)
        await heard(there, who, 2)
        for gateway in replicas:
            async with gateway.websocket(who) as refused:
                error = refused.welcome["error"]
                assert (error["code"], error["retryable"]) == ("too_many_connections", True)
                assert error["retry_after_ms"] > 0
                assert await refused.closed() == 4005
            async with gateway.http as client:
                answer = await client.get(f"/v1/channels/buyer:{who}/events", headers=bearer(who, "buyer"))
                assert (answer.status_code, answer.json()["code"]) == (429, "too_many_connections")
                assert int(answer.headers["retry-after"]) > 0
        await last.raw.close()
        await heard(here, who, 0)
        async with here.websocket(who) as welcome:
            assert welcome.welcome["op"] == "welcome"


async def test_the_newest_may_stay_and_then_the_oldest_of_all_replicas_goes(nats_server: str) -> None:
    async with fleet(nats_server, 2, max_connections_per_principal=2, connection_limit_policy="newest") as (
        here,
        there,
    ):
        who = fresh("buyer")
        async with here.websocket(who) as oldest, there.websocket(who) as second:
            await heard(there, who, 1)
            await heard(here, who, 1)
            async with there.websocket(who) as third:
                assert (await oldest.read())["error"]["code"] == "too_many_connections"
                assert await oldest.closed() == 4005
                await heard(there, who, 0)
                async with there.websocket(who) as fourth:
                    assert (await second.read())["error"]["code"] == "too_many_connections"
                    assert await second.closed() == 4005
                    for stays in (third, fourth):
                        assert (await stays.ask(op="heartbeat", id=1))["op"] == "heartbeat"


async def test_a_killed_replica_counts_no_more_after_its_lease(nats_server: str) -> None:
    who = fresh("buyer")
    dying = GatewayProcess(nats_server, A2A_MAX_CONNECTIONS_PER_PRINCIPAL="1")
    async with running_gateway(nats_server, max_connections_per_principal=1) as stays:
        try:
            gateway = await dying.start()
            async with gateway.websocket(who):
                await heard(stays, who, 1)
                dying.kill()
            await heard(stays, who, 0)
            async with stays.websocket(who) as socket:
                assert socket.welcome["op"] == "welcome"
        finally:
            dying.kill()


async def test_a_replica_cut_off_from_the_others_goes_on_and_agrees_with_them_afterwards(nats_server: str) -> None:
    who = fresh("buyer")
    line = Line(int(nats_server.rpartition(":")[2]))
    async with (
        line.open(),
        running_gateway(nats_server, max_connections_per_principal=2, connection_limit_policy="newest") as here,
        running_gateway(line.url, max_connections_per_principal=2, connection_limit_policy="newest") as there,
        here.websocket(who) as first,
    ):
        await heard(there, who, 1)
        line.deafen()
        async with there.websocket(who) as second, there.websocket(who) as third:
            line.cut()
            assert (await first.read(20))["error"]["code"] == "too_many_connections"
            for stays in (second, third):
                assert (await stays.ask(op="heartbeat", id=1))["op"] == "heartbeat"


async def test_an_admin_sees_the_connections_of_all_replicas(replicas: list[Gateway]) -> None:
    here, there = replicas
    who, other = fresh("buyer"), fresh("buyer")
    async with (
        here.websocket(who, jti="t1") as near,
        there.websocket(who) as far,
        there.events(f"channel=buyer:{other}", other) as blocks,
    ):
        await blocks.read_until("live")
        await near.subscribe(f"buyer:{who}")
        await far.subscribe(f"buyer:{who}")
        await far.subscribe(f"plan:{other}")
        both = await listed(there, sub=who)
        assert both["unanswered"] == []
        assert [one["id"] for one in both["connections"]] == [
            near.welcome["connection_id"],
            far.welcome["connection_id"],
        ]
        first, second = both["connections"]
        assert (first["replica"], second["replica"]) == (gossip_of(here).name, gossip_of(there).name)
        assert (first["transport"], first["sub"], first["role"], first["jti"]) == ("websocket", who, "buyer", "t1")
        assert (first["channels"], second["subscriptions"]) == ([f"buyer:{who}"], 2)
        assert first["opened_at"] <= second["opened_at"] < second["expires_at"]
        subscribed = await listed(here, channel=f"buyer:{other}")
        assert [(one["sub"], one["transport"]) for one in subscribed["connections"]] == [(other, "sse")]
        page = await listed(here, sub=who, limit=1)
        assert [one["id"] for one in page["connections"]] == [first["id"]]
        rest = await listed(here, sub=who, limit=1, after=page["next"])
        assert [one["id"] for one in rest["connections"]] == [second["id"]]
        assert "next" not in rest


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sub=no+id", "invalid_parameter"),
        ("limit=0", "invalid_parameter"),
        ("limit=501", "invalid_parameter"),
        ("after=x", "invalid_parameter"),
        ("channel=x", "invalid_channel"),
    ],
)
async def test_a_listing_that_makes_no_sense_is_refused(replicas: list[Gateway], query: str, code: str) -> None:
    async with replicas[0].http as client:
        answer = await client.get(f"/v1/admin/connections?{query}", headers=ADMIN)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_an_admin_closes_a_connection_wherever_it_is_and_it_may_come_back(replicas: list[Gateway]) -> None:
    here, there = replicas
    who = fresh("buyer")

    async def close(connection: str) -> int:
        async with here.http as client:
            return (await client.delete(f"/v1/admin/connections/{connection}", headers=ADMIN)).status_code

    async with here.websocket(who) as near, there.websocket(who) as far:
        for socket in (near, far):
            assert await close(socket.welcome["connection_id"]) == 204
            assert await socket.closed() == 4203
            assert await close(socket.welcome["connection_id"]) == 404
    async with there.events(f"channel=buyer:{who}", who) as blocks:
        await blocks.read_until("live")
        [one] = (await listed(here, sub=who))["connections"]
        assert await close(one["id"]) == 204
        assert await blocks.read() == {}


async def test_connections_are_an_admins_business(replicas: list[Gateway]) -> None:
    async with replicas[0].http as client:
        for headers in (bearer("b1", "buyer"), bearer("n1", "node"), bearer("s1", "service")):
            for answer in (
                await client.get("/v1/admin/connections", headers=headers),
                await client.delete("/v1/admin/connections/1", headers=headers),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await client.get("/v1/admin/connections")).status_code == 401


async def test_a_replica_that_does_not_answer_is_named(nats_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.5)
    silent = GatewayProcess(nats_server)
    async with running_gateway(nats_server) as asked:
        try:
            await silent.start()
            assert silent.process is not None
            await until(lambda: gossip_of(asked).members, what="they know each other")
            known = set(gossip_of(asked).members)
            freeze(silent.process)
            body = await listed(asked)
            assert len(set(body["unanswered"]) & known) == 1
            async with asked.http as client:
                answer = await client.delete("/v1/admin/connections/1a1fb1da9a26be8c53b6", headers=ADMIN)
            assert (answer.status_code, answer.json()["retryable"]) == (404, True)
            assert answer.json()["details"]["unanswered"] == body["unanswered"]
        finally:
            silent.kill()


async def test_a_flood_of_connects_and_leaves_is_told_in_few_messages(replicas: list[Gateway]) -> None:
    here, there = replicas
    who = fresh("buyer")
    before = gossip_of(here)._number

    async def come_and_go() -> Socket:
        async with here.websocket(who) as socket:
            return socket

    for _ in range(20):
        await asyncio.gather(come_and_go(), come_and_go())
    await heard(there, who, 0)
    assert gossip_of(here)._number - before < 60
