"""Who is revoked is let in nowhere, open or new, from the moment on; and what else an admin may say about it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets

from services.chassis.launch import verifier_of
from services.gateway.app import build
from services.gateway.transports.takeover import GatewayHttp
from services.local.embedded import EmbeddedNats
from tests.harness.asgi import serving
from tests.harness.events import event, fresh
from tests.harness.fleet import ADMIN, fleet, replica_of, revoke
from tests.harness.gateway import Gateway, GatewayProcess, Socket, running_gateway, settings
from tests.harness.line import Line
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer, token
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a token bears that was issued before any revocation here.
OLD: dict[str, Any] = {"iat": int(time.time()) - 60}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(nats_server: str) -> AsyncIterator[list[Gateway]]:
    async with fleet(nats_server, 2) as found:
        yield found


async def refused_socket(gateway: Gateway, sub: str, **claims: Any) -> tuple[dict[str, Any], int]:
    async with gateway.websocket(sub, **{**OLD, **claims}) as socket:
        assert socket.welcome["op"] == "error", socket.welcome
        error: dict[str, Any] = socket.welcome["error"]
        return error, await socket.closed()


async def test_open_connections_of_a_revoked_id_are_closed_on_every_replica(
    replicas: list[Gateway], publisher: Marketplace
) -> None:
    here, there = replicas
    who, other = fresh("buyer"), fresh("buyer")
    async with (
        here.websocket(who, **OLD) as near,
        there.websocket(who, **OLD) as far,
        there.websocket(other) as bystander,
        there.events(f"channel=buyer:{who}", who, headers=bearer(who, "buyer", **OLD)) as blocks,
        there.http as client,
    ):
        await blocks.read_until("live")
        await far.subscribe(f"buyer:{who}")
        end = (await client.get(f"/v1/channels/buyer:{who}/events", headers=bearer(who, "buyer", **OLD))).json()[
            "cursor"
        ]
        path = f"/v1/channels/buyer:{who}/events?wait=20&after={end}"
        polling = asyncio.create_task(client.get(path, headers=bearer(who, "buyer", **OLD)))
        await until(lambda: len(replica_of(there).headcount.of(who)) == 3, what="the long poll waits")
        answer = await revoke(here, sub=who)
        assert answer.status_code == 201
        assert answer.json().keys() == {"sub", "at", "until"}
        for socket in (near, far):
            told = await socket.read()
            assert (told["op"], told["error"]["code"], told["error"]["retryable"]) == ("error", "revoked", False)
            assert await socket.closed() == 4004
        problem = (await blocks.read_until("problem"))[-1]
        assert json.loads(problem["data"])["code"] == "revoked"
        assert await blocks.read() == {}
        assert ((await polling).status_code, (await polling).json()["code"]) == (403, "revoked")
        assert (await bystander.ask(op="heartbeat", id=1))["op"] == "heartbeat"


async def test_a_revoked_token_can_neither_connect_nor_resume_nor_replay_nor_read(replicas: list[Gateway]) -> None:
    here, there = replicas
    who = fresh("buyer")
    await revoke(here, sub=who)
    for gateway in (here, there):
        await until(partial(replica_of(gateway).judge, principal(who)), what="it is known")
        error, code = await refused_socket(gateway, who)
        assert (error["code"], code) == ("revoked", 4004)
        async with gateway.http as client:
            for path in (
                f"/v1/events?channel=buyer:{who}",
                f"/v1/events?channel=buyer:{who}&cursor=earliest",
                f"/v1/channels/buyer:{who}/events",
                "/v1/admin/connections",
            ):
                answer = await client.get(path, headers=bearer(who, "buyer", **OLD))
                assert (answer.status_code, answer.json()["code"]) == (403, "revoked"), path
            assert (await client.post("/v1/session", headers=bearer(who, "buyer", **OLD))).json()["code"] == "revoked"
        async with gateway.websocket() as socket:  # the token as the first message
            assert (await socket.ask(op="auth", id=7, token=token(who, "buyer", **OLD)))["error"]["code"] == "revoked"
            assert await socket.closed() == 4004


def principal(who: str) -> Any:
    from contracts.principal import Principal

    return Principal(who, "buyer", time.time() + 60, issued_at=time.time() - 60)


async def test_a_token_issued_after_the_revocation_is_served(replicas: list[Gateway]) -> None:
    who = fresh("buyer")
    await revoke(replicas[0], sub=who)
    await refused_socket(replicas[0], who)
    async with replicas[0].websocket(who, iat=int(time.time()) + 2) as socket:
        assert socket.welcome["op"] == "welcome"
    error, _ = await refused_socket(replicas[0], who, iat=None)
    assert error["code"] == "revoked"  # it does not say when it was issued


async def test_one_token_of_several_is_revoked_by_its_jti(replicas: list[Gateway]) -> None:
    here, there = replicas
    who, stolen = fresh("buyer"), fresh("token") + ".with *any* text"
    async with there.websocket(who, **OLD, jti=stolen) as bad, there.websocket(who, **OLD, jti=fresh("token")) as good:
        await revoke(here, jti=stolen)
        assert (await bad.read())["error"]["code"] == "revoked"
        assert await bad.closed() == 4004
        assert (await good.ask(op="heartbeat", id=1))["op"] == "heartbeat"
        assert (await good.ask(op="auth", id=2, token=token(who, "buyer", **OLD, jti=stolen)))["error"][
            "code"
        ] == "revoked"
        assert await good.closed() == 4004


async def test_a_revocation_is_lifted_and_listed(replicas: list[Gateway]) -> None:
    here, there = replicas
    who, jti = fresh("buyer"), fresh("token")
    await revoke(here, sub=who)
    await revoke(here, jti=jti, until=time.time() + 3600)

    async def names() -> set[str]:
        found: set[str] = set()
        after = ""
        async with there.http as client:
            while True:
                query = {"limit": "1", "after": after}
                body = (await client.get("/v1/admin/revocations", params=query, headers=ADMIN)).json()
                found |= {one.get("sub") or one.get("jti") for one in body["revocations"]}
                if "next" not in body:
                    return found
                after = body["next"]

    async def both() -> bool:
        return {who, jti} <= await names()

    await until(both, what="both are listed")
    async with there.http as client:
        assert (await client.delete("/v1/admin/revocations", params={"sub": who}, headers=ADMIN)).status_code == 204

        async def lifted() -> bool:
            return who not in await names()

        await until(lifted, what="it is lifted")
        again = await client.delete("/v1/admin/revocations", params={"sub": who}, headers=ADMIN)
        assert (again.status_code, again.json()["code"]) == (404, "not_found")
    async with there.websocket(who, **OLD) as socket:
        assert socket.welcome["op"] == "welcome"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"sub":1}',
        b"{}",
        b'{"sub":"b1","jti":"t1"}',
        b'{"sub":"no id"}',
        b'{"jti":""}',
        b'{"sub":"b1","until":1}',
        b'{"sub":"b1","until":99999999999}',
        b'{"sub":"b1","until":"soon"}',
        b'{"sub":"b1","until":1e999}',
        b'{"sub":"b1","for":"ever"}',
        b'{"sub":"\xff"}',
    ],
)
async def test_a_revocation_that_makes_no_sense_is_refused(replicas: list[Gateway], body: bytes) -> None:
    async with replicas[0].http as client:
        answer = await client.post("/v1/admin/revocations", content=body, headers=ADMIN)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_command")


async def test_only_an_admin_revokes(replicas: list[Gateway]) -> None:
    async with replicas[0].http as client:
        for role in ("buyer", "node", "service"):
            headers = bearer("b1", role)
            for answer in (
                await client.post("/v1/admin/revocations", json={"sub": "b2"}, headers=headers),
                await client.get("/v1/admin/revocations", headers=headers),
                await client.delete("/v1/admin/revocations?sub=b2", headers=headers),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await client.post("/v1/admin/revocations", json={"sub": "b2"})).status_code == 401


async def test_a_replica_lets_nobody_in_before_it_knows_who_is_revoked(fresh_nats: EmbeddedNats) -> None:
    who = fresh("buyer")
    async with running_gateway(fresh_nats.url) as gateway:
        await revoke(gateway, sub=who)
    chosen = settings(fresh_nats.url)
    app = build(chosen, verifier_of(chosen), lambda reason: None)
    codes: list[str] = []
    async with serving(app, http=GatewayHttp) as url:
        again = Gateway(url)
        while not codes or codes[-1] != "revoked":
            codes.append((await refused_socket(again, who))[0]["code"])
            assert codes[-1] in ("unavailable", "revoked")
        async with again.http as client:
            assert (await client.get("/readyz")).json()["revocations"] == {"known": 1}


async def test_what_is_known_holds_while_nats_is_away_and_what_came_meanwhile_is_heard(
    fresh_nats: EmbeddedNats,
) -> None:
    who, later = fresh("buyer"), fresh("buyer")
    async with running_gateway(fresh_nats.url) as gateway:
        await revoke(gateway, sub=who)
        assert (await refused_socket(gateway, who))[0]["code"] == "revoked"
        await asyncio.to_thread(fresh_nats.kill)
        assert (await refused_socket(gateway, who))[0]["code"] == "revoked"
        answer = await revoke(gateway, sub=later)
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "unavailable", True)
        async with gateway.websocket(later, **OLD) as socket:
            await asyncio.to_thread(fresh_nats.start)

            async def stored() -> bool:
                return (await revoke(gateway, sub=later)).status_code == 201

            await until(stored, what="it can be stored again")
            assert await socket.closed(15) == 4004


async def test_a_replica_that_was_cut_off_obeys_what_it_missed_as_soon_as_it_is_back(nats_server: str) -> None:
    who, later = fresh("buyer"), fresh("buyer")
    line = Line(int(nats_server.rpartition(":")[2]))
    async with line.open(), running_gateway(nats_server) as here:
        # In a process of its own: where a line is cut while nats-py connects, it leaves its socket to the collector.
        process = GatewayProcess(line.url)
        try:
            cut_off = await process.start()
            async with cut_off.websocket(who, **OLD) as open_one:
                line.sever()
                assert (await revoke(here, sub=who)).status_code == 201
                assert (await open_one.ask(op="heartbeat", id=1))["op"] == "heartbeat"  # it has not heard, and serves
                line.heal()
                await shut_out(open_one)
            assert (await refused_socket(cut_off, who))[0]["code"] == "revoked"
            async with cut_off.websocket(later, **OLD) as open_one:
                line.deafen()  # what it asks arrives, and no answer does
                assert (await revoke(here, sub=later)).status_code == 201
                line.cut()
                await shut_out(open_one)
        finally:
            process.kill()


async def shut_out(socket: Socket) -> None:
    """It is told why and closed, once its gateway is connected again."""
    assert (await socket.read_until("error", 20))[-1]["error"]["code"] == "revoked"
    assert await socket.closed() == 4004


async def test_every_service_that_takes_tokens_obeys(fresh_nats: EmbeddedNats) -> None:
    from tests.harness.ingest import publishing

    who = fresh("shop")
    async with running_gateway(fresh_nats.url) as gateway, publishing(fresh_nats.url) as publisher:
        await publisher.ready()
        body, headers = event("ORDER_CREATED"), bearer(who, "service", **OLD)
        assert (await publisher.http.post("/v1/events", json=body, headers=headers)).status_code == 200
        await revoke(gateway, sub=who)

        async def answered() -> httpx.Response | None:
            answer = await publisher.http.post("/v1/events", json=body, headers=headers)
            return answer if answer.status_code == 403 else None

        assert (await until(answered, what="ingest obeys")).json()["code"] == "revoked"


async def test_revocations_that_ended_are_forgotten(replicas: list[Gateway]) -> None:
    who = fresh("buyer")
    await revoke(replicas[0], sub=who, until=time.time() + 1.5)
    await refused_socket(replicas[0], who)

    async def served() -> bool:
        with contextlib.suppress(websockets.ConnectionClosed):
            async with replicas[0].websocket(who, **OLD) as socket:
                return bool(socket.welcome["op"] == "welcome")
        return False

    await until(served, what="the revocation has ended")
