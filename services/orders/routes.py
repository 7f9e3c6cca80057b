"""The orders' operations over HTTP: a query, and cancelling."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode
from contracts.events.data import Text
from contracts.principal import Principal
from services.chassis.commands import Asked, Command, Operation, Query
from services.orders.store import Done, Orders, OrderView, Shown

_ORDER = "/v1/orders/{id}"


class CancelOrder(BaseModel):
    """Why the order is cancelled."""

    # What was not understood whole must not be carried out in part.
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Text = Field(default="cancelled", examples=["ordered twice"])


class Routes:
    """All operations of one place of orders."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def operations(self) -> tuple[Operation, ...]:
        """For the app and its OpenAPI document."""
        return (
            Query(
                path=_ORDER,
                summary="An order and where its payment is, for its parties.",
                answer=OrderView,
                handle=self._show,
            ),
            Command(
                path=f"{_ORDER}/cancel",
                summary="Buyer or node do not want it any more and it is not paid; its payment is closed with it.",
                body=CancelOrder,
                handle=self._cancel,
                refusals=(ErrorCode.ORDER_PAID, ErrorCode.ORDER_CLOSED),
            ),
        )

    async def _cancel(self, asked: Asked[CancelOrder]) -> Done:
        return await self._orders.cancel(asked.principal, asked.cause, asked.ids["id"], asked.body.reason)

    async def _show(self, who: Principal, ids: Mapping[str, str]) -> Shown:
        return await self._orders.show(who, ids["id"])
