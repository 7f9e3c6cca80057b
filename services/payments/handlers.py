"""What payments does of itself when an event is stored: asks for the money of an order that was made."""

from typing import Protocol

from contracts.contract import Event
from contracts.events.order_v1 import OrderCreated
from services.chassis.aggregates import Cause


class Requests(Protocol):
    """Where money is asked for."""

    async def request(self, cause: Cause, order: OrderCreated) -> None:
        """Ask for the order's total, unless that was done, or the order was cancelled meanwhile."""


class Reactions:
    """The reactions over one place where money is asked for."""

    def __init__(self, requests: Requests, orders: str) -> None:
        """`orders` is the source of the orders service's events; whoever else makes orders settles them."""
        self._requests = requests
        self._orders = orders

    async def order_created(self, event: Event) -> None:
        """ORDER_CREATED is followed by PAYMENT_REQUESTED."""
        if event.envelope.source == self._orders and isinstance(event.data, OrderCreated):
            await self._requests.request(Cause.event(event), event.data)
