"""The composition root of orders: what it offers and what it reacts to."""

from services.chassis.publisher import Definition, Parts
from services.chassis.reactions import Source
from services.orders.handlers import Reactions
from services.orders.routes import Routes
from services.orders.settings import OrdersSettings
from services.orders.store import Orders

NAME = "orders"
DESCRIPTION = "Orders: made of accepted negotiations, confirmed when paid, or cancelled together with their payments."


def define(_: OrdersSettings, parts: Parts) -> Definition:
    """The service over its store."""
    orders = Orders(parts.store)
    reactions = Reactions(orders, deals="urn:a2a:service:deals", payments="urn:a2a:service:payments")
    return Definition(
        Routes(orders).operations(),
        (
            Source("deals", {"NEGOTIATION_ACCEPTED": reactions.accepted}),
            Source("payments", {"PAYMENT_SUCCEEDED": reactions.settled, "PAYMENT_FAILED": reactions.settled}),
        ),
    )
