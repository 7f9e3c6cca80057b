"""What orders does of itself when an event is stored: makes an order, and ends it as its payment ended.

Each reaction may come twice and after others: what is done already stays as it is.
"""

from typing import Protocol

from contracts.contract import Event
from contracts.events.negotiation_v1 import NegotiationAccepted
from contracts.events.payment_v1 import PaymentFailed, PaymentSucceeded
from services.chassis.aggregates import Cause


class Orders(Protocol):
    """Where orders are."""

    async def create(self, cause: Cause, accepted: NegotiationAccepted) -> None:
        """Make the negotiation's order, unless it is there."""

    async def settle(self, cause: Cause, payment: PaymentSucceeded | PaymentFailed) -> None:
        """Confirm or cancel the payment's order, unless it has ended so already."""


class Reactions:
    """The reactions over one place of orders."""

    def __init__(self, orders: Orders, *, deals: str, payments: str) -> None:
        """`deals` and `payments` are the sources of those services' events: whoever else deals makes its own orders."""
        self._orders = orders
        self._deals = deals
        self._payments = payments

    async def accepted(self, event: Event) -> None:
        """NEGOTIATION_ACCEPTED becomes an order."""
        match event.data:
            case NegotiationAccepted() as accepted if event.envelope.source == self._deals:
                await self._orders.create(Cause.event(event), accepted)

    async def settled(self, event: Event) -> None:
        """PAYMENT_SUCCEEDED confirms the order, PAYMENT_FAILED cancels it."""
        match event.data:
            case PaymentSucceeded() | PaymentFailed() as payment if event.envelope.source == self._payments:
                await self._orders.settle(Cause.event(event), payment)
