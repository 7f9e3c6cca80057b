"""Revocation against the clock: two replicas in processes of their own, three clients each, and a restart.

Prints its figures (`task endurance -- -s`).
"""

import asyncio
import contextlib
import time
from typing import Any

import pytest
import websockets

from services.local.embedded import EmbeddedNats
from tests.harness.events import fresh
from tests.harness.fleet import revoke
from tests.harness.gateway import Gateway, GatewayProcess, Socket, is_ready
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = [pytest.mark.endurance, pytest.mark.asyncio(loop_scope="module")]
ROUNDS = 50
# What a token bears that was issued before any revocation here.
OLD: dict[str, Any] = {"iat": int(time.time()) - 60}


async def shut_out(socket: Socket) -> float:
    """When this one was told that it is revoked, and closed."""
    assert (await socket.read_until("error", 5))[-1]["error"]["code"] == "revoked"
    assert await socket.closed(5) == 4004
    return time.monotonic()


async def cannot_come_back(gateway: Gateway, who: str, cursor: str) -> None:
    """Neither to resume nor to replay."""
    async with gateway.websocket(who, **OLD) as socket:
        assert socket.welcome["error"]["code"] == "revoked"
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.send(op="resume", id=1, channels={f"buyer:{who}": cursor})
        assert await socket.closed() == 4004
    async with gateway.http as client:
        for query in (f"events?channel=buyer:{who}&cursor={cursor}", f"channels/buyer:{who}/events?after={cursor}"):
            answer = await client.get(f"/v1/{query}", headers=bearer(who, "buyer", **OLD))
            assert (answer.status_code, answer.json()["code"]) == (403, "revoked")


async def welcomes(gateway: Gateway, revoked: list[str], codes: list[str]) -> None:
    """Try with one revoked token after the other from before the replica listens; what each is told."""
    while True:
        for who in revoked:
            with contextlib.suppress(OSError, websockets.WebSocketException):
                async with gateway.websocket(who, **OLD) as socket:
                    codes.append(socket.welcome.get("error", {"code": "welcome"})["code"])
        await asyncio.sleep(0)


async def test_who_is_revoked_is_shut_out_everywhere_within_a_second(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    first, second = GatewayProcess(fresh_nats.url), GatewayProcess(fresh_nats.url)
    here: list[float] = []
    there: list[float] = []
    revoked: list[str] = []
    try:
        gateways = [await first.start(), await second.start()]
        for _ in range(ROUNDS):
            who = fresh("buyer")
            await market.orders(1, buyer=who)
            async with contextlib.AsyncExitStack() as stack:
                sockets = [
                    await stack.enter_async_context(gateway.websocket(who, **OLD))
                    for gateway in gateways
                    for _ in range(3)
                ]
                begun = [await socket.subscribe(f"buyer:{who}", cursor="earliest") for socket in sockets]
                asked_at = time.monotonic()
                leaving = [asyncio.create_task(shut_out(socket)) for socket in sockets]
                assert (await revoke(gateways[0], sub=who)).status_code == 201
                moments = [await one for one in leaving]
            here += [moment - asked_at for moment in moments[:3]]
            there += [moment - asked_at for moment in moments[3:]]
            for gateway in gateways:
                await cannot_come_back(gateway, who, begun[0][0]["cursor"])
            revoked.append(who)
        for name, took in (("asked", here), ("other", there)):
            took.sort()
            half, most = took[len(took) // 2] * 1000, took[-1] * 1000
            print(f"\nrevoked at the {name} replica: p50 {half:.0f} ms, most {most:.0f} ms")
        assert max(here + there) <= 1
        second.kill()
        codes: list[str] = []
        trying = asyncio.create_task(welcomes(second.gateway, revoked, codes))
        await second.start()
        await is_ready(second.gateway)
        await until(lambda: codes.count("revoked") > ROUNDS, what="each was refused after the restart")
        trying.cancel()
        await asyncio.wait([trying])
        print(f"after the restart: {', '.join(f'{codes.count(code)} {code}' for code in sorted(set(codes)))}")
        assert set(codes) <= {"revoked", "unavailable"}
    finally:
        first.kill()
        second.kill()
