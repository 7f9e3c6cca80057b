"""What orders reacts to, and what it passes by."""

from contracts.events.negotiation_v1 import NegotiationAccepted
from contracts.events.payment_v1 import PaymentFailed, PaymentSucceeded
from contracts.registry import REGISTRY
from services.chassis.aggregates import Cause
from services.orders.handlers import Reactions
from tests.harness.events import event


class FakeOrders:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def create(self, cause: Cause, accepted: NegotiationAccepted) -> None:
        self.asked.append(("create", str(cause), accepted.order_id))

    async def settle(self, cause: Cause, payment: PaymentSucceeded | PaymentFailed) -> None:
        self.asked.append(("settle", str(cause), payment.order_id))


async def test_each_event_is_handed_on_with_itself_as_the_cause() -> None:
    orders = FakeOrders()
    source = "urn:a2a:service:tests"
    reactions = Reactions(orders, deals=source, payments=source)
    for kind in ("NEGOTIATION_ACCEPTED", "PAYMENT_SUCCEEDED", "PAYMENT_FAILED"):
        await reactions.accepted(REGISTRY.read(event(kind, event_id=kind, order="o")))
        await reactions.settled(REGISTRY.read(event(kind, event_id=kind, order="o")))
    assert orders.asked == [
        ("create", "NEGOTIATION_ACCEPTED", "o"),
        ("settle", "PAYMENT_SUCCEEDED", "o"),
        ("settle", "PAYMENT_FAILED", "o"),
    ]


async def test_what_others_store_is_left_to_them() -> None:
    orders = FakeOrders()
    reactions = Reactions(orders, deals="urn:a2a:service:deals", payments="urn:a2a:service:payments")
    await reactions.accepted(REGISTRY.read(event("NEGOTIATION_ACCEPTED")))
    await reactions.settled(REGISTRY.read(event("PAYMENT_SUCCEEDED")))
    assert orders.asked == []
