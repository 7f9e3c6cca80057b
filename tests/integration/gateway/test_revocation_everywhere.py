"""Who is revoked at one gateway is let in by no service, at the hub or in a region; and an admin sees both."""

import time
from pathlib import Path
from typing import Any

import httpx

from tests.harness.events import fresh
from tests.harness.fleet import ADMIN, acquainted, listed, revoke
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.ingest import publishing as ingesting
from tests.harness.publishers import publishing
from tests.harness.region import hub_and_regions
from tests.harness.sites import HUB
from tests.harness.tokens import bearer
from tests.harness.waiting import until

# What a token bears that was issued before any revocation here.
OLD: dict[str, Any] = {"iat": int(time.time()) - 60}


async def refuses(client: httpx.AsyncClient, method: str, url: str, role: str, who: str) -> None:
    """Wait until the service knows, which the next look at the stream brings."""

    async def revoked() -> bool:
        answer = await client.request(method, url, headers={"A2A-Version": "1.0", **bearer(who, role, **OLD)})
        return answer.status_code == 403 and "revoked" in answer.text.lower()

    await until(revoked, what=f"{method} {url} is refused")


async def test_a_revocation_holds_at_every_service_for_whatever_is_asked(nats_server: str) -> None:
    who = fresh("buyer")
    async with (
        running_gateway(nats_server) as gateway,
        publishing(nats_server, "deals", "orders", "payments") as services,
        ingesting(nats_server) as ingest,
    ):
        await ingest.ready()
        await revoke(gateway, sub=who)
        deals, orders, payments = (services.desk.urls[name] for name in ("deals", "orders", "payments"))
        for method, url, role in (
            ("GET", f"{deals}/v1/intents/x", "buyer"),
            ("POST", f"{deals}/v1/intents", "buyer"),
            ("GET", f"{orders}/v1/orders/x", "buyer"),
            ("POST", f"{orders}/v1/orders/x/cancel", "buyer"),
            ("GET", f"{payments}/v1/payments/x", "buyer"),
            ("POST", f"{ingest.http.base_url}/v1/events", "service"),
            ("GET", f"{gateway.url}/v1/channels/buyer:{who}/presence", "buyer"),
            ("GET", f"{gateway.url}/a2a/tasks/x:subscribe", "buyer"),
            ("GET", f"{gateway.url}/v1/admin/connections", "admin"),
        ):
            await refuses(services.http, method, url, role, who)


async def closes(gateway: Gateway, where: Gateway, who: str) -> None:
    """A connection here is closed by a revocation there, and who comes back is refused."""
    async with gateway.websocket(who, **OLD) as socket:
        assert (await revoke(where, sub=who)).status_code == 201
        assert (await socket.read())["error"]["code"] == "revoked"
        assert await socket.closed() == 4004
    async with gateway.websocket(who, **OLD) as socket:
        assert socket.welcome["error"]["code"] == "revoked"


async def test_revocations_and_an_admins_eyes_and_hands_cross_a_leaf_both_ways(tmp_path: Path) -> None:
    async with (
        hub_and_regions(tmp_path, "eu") as (site, _),
        site.relay("eu"),
        running_gateway(site.hub.url, region="hub") as hub,
        running_gateway(site.regions["eu"].url, region="eu", hub_domain=HUB) as eu,
    ):
        await acquainted([hub, eu])
        who = fresh("buyer")
        async with hub.websocket(who), eu.websocket(who) as there:
            for gateway in (hub, eu):
                found = await listed(gateway, sub=who)
                assert [one["region"] for one in found["connections"]] == ["hub", "eu"]
                assert found["unanswered"] == []
            async with hub.http as client:
                path = f"/v1/admin/connections/{there.welcome['connection_id']}"
                assert (await client.delete(path, headers=ADMIN)).status_code == 204
            assert await there.closed() == 4203
        await closes(eu, hub, fresh("buyer"))
        await closes(hub, eu, fresh("buyer"))
