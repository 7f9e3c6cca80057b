"""Events of a negotiation, version 1: rounds of offers between a buyer and a node, and how they end."""

from pydantic import Field

from contracts.events.data import Actor, Data, DealData, Id, Party, Text
from contracts.events.moment import Moment
from contracts.events.money import Money


class Offer(Data):
    """One side's price in one round; it stands until it expires or the other side answers."""

    round: int = Field(ge=1, strict=True)
    by: Party
    price: Money
    expires_at: Moment


class NegotiationStarted(Data):
    """Buyer and node begin to negotiate over a quote."""

    negotiation_id: Id
    intent_id: Id
    quote_id: Id
    buyer_id: Id
    node_id: Id
    opening_offer: Money
    expires_at: Moment | None = None


class NegotiationOfferMade(DealData):
    """The side whose turn it is answers with a price of its own."""

    negotiation_id: Id
    offer: Offer


class NegotiationAccepted(DealData):
    """The side whose turn it is takes the standing offer: it becomes the order `order_id`."""

    negotiation_id: Id
    order_id: Id
    # Who accepts, not who offered.
    by: Party
    round: int = Field(ge=1, strict=True)
    price: Money


class NegotiationRejected(DealData):
    """The negotiation ended without an order."""

    negotiation_id: Id
    by: Actor
    reason: Text = Field(
        description="A word for machines: rejected, expired, intent_cancelled, quote_withdrawn, or another.",
        examples=["rejected"],
    )
    text: Text | None = Field(default=None, description="A word for people.")
