"""What the link to a region costs: each event once, however many clients are there."""

import asyncio
import contextlib
import json
from pathlib import Path

from tests.harness.events import event, fresh
from tests.harness.gateway import running_gateway
from tests.harness.marketplace import marketplace
from tests.harness.sites import HUB, sites
from tests.harness.waiting import until
from tests.harness.witness import Witness

EVENTS = 300
CLIENTS = 30


async def test_an_event_crosses_the_link_once_for_a_region_not_once_for_a_client(tmp_path: Path) -> None:
    buyer = fresh("buyer")
    async with contextlib.AsyncExitStack() as stack:
        found = await stack.enter_async_context(sites(tmp_path, "eu"))
        market = await stack.enter_async_context(marketplace(found.hub.url))
        await stack.enter_async_context(found.relay("eu", interval_seconds=3600))
        eu = found.regions["eu"]
        gateway = await stack.enter_async_context(running_gateway(eu.url, region="eu", hub_domain=HUB, declare=False))

        async def cost() -> int:
            """Bytes that cross for so many events."""
            before = eu.link.answered_bytes
            seen_before = {id(client): len(client.seen) for client in clients}
            await market.publish_all([event("ORDER_CREATED", buyer=buyer) for _ in range(EVENTS)])

            def is_delivered() -> bool:
                return all(len(client.seen) >= seen_before[id(client)] + EVENTS for client in clients)

            await until(is_delivered, what="all is delivered")
            return eu.link.answered_bytes - before

        clients: list[Witness] = []
        tasks = []

        async def join(number: int) -> None:
            for _ in range(number):
                clients.append(Witness(buyer))
                tasks.append(asyncio.create_task(clients[-1].over_websocket(lambda: gateway)))
            await until(lambda: all(client.live for client in clients), what="all are live")

        try:
            await join(1)
            one = await cost()
            await join(CLIENTS - 1)
            many = await cost()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    size = len(json.dumps(event("ORDER_CREATED", buyer=buyer)))
    print(
        f"an event of {size} bytes costs {one / EVENTS:.0f} over the link with 1 client, "
        f"{many / EVENTS:.0f} with {CLIENTS}"
    )
    assert many < 1.5 * one
    assert one / EVENTS < 2 * size
