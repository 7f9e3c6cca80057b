"""What the payment provider sends, and what a query shows; as `/openapi.json` has them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.events.data import Text
from contracts.events.money import Money
from services.payments.domain import Payment


class Result(BaseModel):
    """How a payment went. Members that are not known are let through: a provider may say more than is asked for."""

    model_config = ConfigDict(frozen=True)

    status: Literal["succeeded", "failed"] = Field(examples=["succeeded"])
    reference: Text = Field(examples=["psp-2026-000417"], description="The provider's own name for the payment.")
    reason: Text | None = Field(default=None, examples=["card declined"], description="Why it failed.")
    # A signature is over the body and not over the address.
    order_id: str | None = Field(
        default=None,
        description="The order it is about; a message that names it settles no other, whoever sends it.",
    )


class PaymentView(BaseModel):
    """A payment."""

    model_config = ConfigDict(frozen=True)

    order_id: str
    intent_id: str
    buyer_id: str
    node_id: str
    amount: Money
    status: Literal["requested", "succeeded", "failed"]
    # The provider's own name for it.
    reference: str | None
    # Why it failed.
    reason: str | None

    @staticmethod
    def of(state: Payment) -> "PaymentView":
        """The payment as it stands."""
        return PaymentView(
            order_id=state.order_id,
            intent_id=state.intent_id,
            buyer_id=state.buyer_id,
            node_id=state.node_id,
            amount=state.amount,
            status=state.status.value,
            reference=state.reference,
            reason=state.reason,
        )
