"""The market's event data, version 1: the five facts every deal passes through."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from contracts.events.moment import Moment
from contracts.events.money import Money
from contracts.subjects import ID_PATTERN

Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Data(BaseModel):
    # Unknown fields are let through: an optional field added later must not break today's readers.
    model_config = ConfigDict(frozen=True)


class IntentCreated(_Data):
    """A buyer's agent says what it wants."""

    intent_id: Id
    buyer_id: Id
    title: Text
    quantity: int = Field(default=1, ge=1, strict=True)
    budget: Money | None = None
    expires_at: Moment | None = None


class QuoteReceived(_Data):
    """A node offers to fulfil an intent."""

    quote_id: Id
    intent_id: Id
    buyer_id: Id
    node_id: Id
    price: Money
    valid_until: Moment | None = None


class NegotiationStarted(_Data):
    """Buyer and node begin to negotiate over a quote."""

    negotiation_id: Id
    intent_id: Id
    quote_id: Id
    buyer_id: Id
    node_id: Id
    opening_offer: Money
    expires_at: Moment | None = None


class OrderCreated(_Data):
    """An accepted negotiation became an order."""

    order_id: Id
    intent_id: Id
    negotiation_id: Id
    buyer_id: Id
    node_id: Id
    total: Money


class PaymentSucceeded(_Data):
    """The order's payment arrived; a payment bears its order's id."""

    order_id: Id
    intent_id: Id
    buyer_id: Id
    node_id: Id
    amount: Money
    reference: Text
