"""What the deals' queries show: the folds as JSON, and of an intent only what the asker is a party to. Pure.

`status` is judged at the moment of asking, so what has expired is told so before any event says it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from contracts.cursor import Cursor
from contracts.events.data import Actor
from contracts.events.moment import Moment
from contracts.events.money import Money
from contracts.events.negotiation_v1 import Offer
from services.deals.domain.intent import Intent
from services.deals.domain.negotiation import Negotiation, Status
from services.deals.domain.quote import Quote

Shape = TypeVar("Shape", bound="View")


@dataclass(frozen=True, slots=True)
class Shown(Generic[Shape]):
    """What a query answers: a state, and the cursor at which it holds."""

    state: Shape
    cursor: Cursor


class View(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(frozen=True)


class QuoteView(View):
    """A quote."""

    quote_id: str
    intent_id: str
    buyer_id: str
    node_id: str
    price: Money
    valid_until: Moment | None
    status: Literal["live", "withdrawn", "expired"]

    @staticmethod
    def of(state: Quote, now: datetime) -> "QuoteView":
        """The quote as it is at `now`."""
        return QuoteView(
            quote_id=state.quote_id,
            intent_id=state.intent_id,
            buyer_id=state.buyer_id,
            node_id=state.node_id,
            price=state.price,
            valid_until=state.valid_until,
            status="withdrawn" if state.withdrawn else "expired" if state.closed(now) else "live",
        )


class NegotiationView(View):
    """A negotiation with its standing offer."""

    negotiation_id: str
    intent_id: str
    quote_id: str
    buyer_id: str
    node_id: str
    quantity: int
    offer: Offer
    status: Literal["open", "accepted", "rejected", "expired"]
    # Of the order that it became.
    order_id: str | None
    # Who ended it and why.
    rejected_by: Actor | None
    reason: str | None

    @staticmethod
    def of(state: Negotiation, now: datetime) -> "NegotiationView":
        """The negotiation as it is at `now`."""
        over = state.status is Status.OPEN and now >= state.offer.expires_at
        return NegotiationView(
            negotiation_id=state.negotiation_id,
            intent_id=state.intent_id,
            quote_id=state.quote_id,
            buyer_id=state.buyer_id,
            node_id=state.node_id,
            quantity=state.quantity,
            offer=state.offer,
            status="expired" if over else state.status.value,
            order_id=state.order_id,
            rejected_by=state.rejected_by,
            reason=state.reason,
        )


class IntentView(View):
    """An intent with the quotes and negotiations that the asker may see."""

    intent_id: str
    buyer_id: str
    title: str
    quantity: int
    budget: Money | None
    expires_at: Moment | None
    status: Literal["open", "cancelled", "expired"]
    quotes: tuple[QuoteView, ...]
    negotiations: tuple[NegotiationView, ...]

    @staticmethod
    def of(state: Intent, parts: Iterable[object], now: datetime, *, node_id: str | None = None) -> "IntentView":
        """The intent as it is at `now`; of `parts`, its quotes and negotiations, those of `node_id` where it is set."""
        mine = [
            part
            for part in parts
            if isinstance(part, Quote | Negotiation) and (node_id is None or part.node_id == node_id)
        ]
        return IntentView(
            intent_id=state.intent_id,
            buyer_id=state.buyer_id,
            title=state.title,
            quantity=state.quantity,
            budget=state.budget,
            expires_at=state.expires_at,
            status="cancelled" if state.cancelled else "expired" if state.closed(now) else "open",
            quotes=tuple(QuoteView.of(part, now) for part in mine if isinstance(part, Quote)),
            negotiations=tuple(NegotiationView.of(part, now) for part in mine if isinstance(part, Negotiation)),
        )
