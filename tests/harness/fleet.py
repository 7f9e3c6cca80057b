"""Several gateways of one fleet, and an admin who asks them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from services.gateway.bus.gossip import Gossip
from services.gateway.core.replica import Replica
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.tokens import bearer
from tests.harness.waiting import until

ADMIN = bearer("root", "admin")


def gossip_of(gateway: Gateway) -> Gossip:
    """How an in-process gateway knows the others."""
    assert gateway.gossip is not None
    return gateway.gossip


def replica_of(gateway: Gateway) -> Replica:
    assert gateway.replica is not None
    return gateway.replica


@contextlib.asynccontextmanager
async def fleet(nats_url: str, size: int = 2, **changes: Any) -> AsyncIterator[list[Gateway]]:
    """Gateways in this process that know each other."""
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(running_gateway(nats_url, **changes)) for _ in range(size)]
        await acquainted(found)
        yield found


async def acquainted(gateways: list[Gateway]) -> None:
    """Until each has heard all of each other."""
    names = {gossip_of(gateway).name for gateway in gateways}

    def known() -> bool:
        return all(
            names - {gossip_of(one).name} <= {name for name, other in gossip_of(one).members.items() if other.number}
            for one in gateways
        )

    await until(known, what="every replica knows the others")


async def revoke(gateway: Gateway, **about: Any) -> httpx.Response:
    """As an admin."""
    async with gateway.http as client:
        return await client.post("/v1/admin/revocations", json=about, headers=ADMIN)


async def listed(gateway: Gateway, **query: Any) -> dict[str, Any]:
    """The fleet's connections, as an admin sees them through this gateway."""
    async with gateway.http as client:
        answer = await client.get("/v1/admin/connections", params=query, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body
