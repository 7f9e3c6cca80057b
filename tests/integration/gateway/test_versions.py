"""Old versions in a stream: clients get them as they were stored, beside the newest."""

import pytest

from contracts.registry import REGISTRY
from tests.harness.events import event, fresh
from tests.harness.gateway import Gateway
from tests.harness.marketplace import Marketplace

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_event_of_an_old_version_reaches_clients_exactly_as_it_was_stored_live_and_replayed(
    gateway: Gateway, publisher: Marketplace
) -> None:
    buyer, negotiation = fresh("buyer"), fresh("negotiation")
    events = [event("NEGOTIATION_STARTED", version=version, buyer=buyer, negotiation=negotiation) for version in (1, 2)]
    assert [REGISTRY.check(one)[0].deprecated for one in events] == [True, False]
    async with gateway.websocket(buyer) as socket:
        await socket.subscribe(f"negotiation:{negotiation}")
        await publisher.publish_all(events)
        assert [(await socket.read())["event"] for _ in events] == events
        await socket.ask(op="unsubscribe", id=1, channel=f"negotiation:{negotiation}")
        told = await socket.subscribe(f"negotiation:{negotiation}", cursor="earliest")
    assert [message["event"] for message in told if message["op"] == "event"] == events
