"""An order that was made is asked for; what others made is theirs."""

from contracts.events.order_v1 import OrderCreated
from contracts.registry import REGISTRY
from services.chassis.aggregates import Cause
from services.payments.handlers import Reactions
from tests.harness.events import event

MADE = REGISTRY.read(event("ORDER_CREATED"))


class Desk:
    """Where money is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, OrderCreated]] = []

    async def request(self, cause: Cause, order: OrderCreated) -> None:
        self.asked.append((cause.key, order))


async def test_an_order_that_was_made_is_asked_for_on_its_account() -> None:
    desk = Desk()
    await Reactions(desk, MADE.envelope.source).order_created(MADE)
    assert desk.asked == [(MADE.envelope.id, MADE.data)]


async def test_orders_of_others_and_other_events_are_passed_by() -> None:
    desk = Desk()
    await Reactions(desk, "urn:a2a:service:orders").order_created(MADE)
    await Reactions(desk, MADE.envelope.source).order_created(REGISTRY.read(event("ORDER_CANCELLED")))
    assert desk.asked == []
