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

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def accepted(self, event: Event) -> None:
        """NEGOTIATION_ACCEPTED becomes an order."""
        match event.data:
            case NegotiationAccepted() as accepted:
                await self._orders.create(Cause.event(event), accepted)

    async def settled(self, event: Event) -> None:
        """PAYMENT_SUCCEEDED confirms the order, PAYMENT_FAILED cancels it."""
        match event.data:
            case PaymentSucceeded() | PaymentFailed() as payment:
                await self._orders.settle(Cause.event(event), payment)
