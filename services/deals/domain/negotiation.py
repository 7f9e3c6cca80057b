"""A negotiation: buyer and node answer each other's offers until one accepts, one leaves or the offer runs out.

Who made the standing offer waits: it can neither accept nor outbid itself, but it may leave. An offer that has
expired ends the negotiation for its parties at once; the system's own rejection only makes that visible. A
negotiation ends once, and one that was accepted is one order, whose id follows from its own.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TypedDict

from contracts.errors import ErrorCode, Problem
from contracts.events.data import Actor, Party
from contracts.events.money import Money
from contracts.events.negotiation_v1 import NegotiationAccepted, NegotiationOfferMade, NegotiationRejected, Offer
from contracts.events.negotiation_v2 import NegotiationStarted
from contracts.publishing import derived_id
from services.deals.domain.intent import Intent
from services.deals.domain.quote import Quote

MOST_ROUNDS = 50
EXPIRED = "expired"

Event = NegotiationStarted | NegotiationOfferMade | NegotiationAccepted | NegotiationRejected
Decision = tuple[Event, ...] | Problem


class Status(Enum):
    """Where a negotiation is; the last two are its ends."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiation:
    """The fold of a negotiation's events."""

    negotiation_id: str
    intent_id: str
    quote_id: str
    buyer_id: str
    node_id: str
    quantity: int
    # The standing offer: the last one made.
    offer: Offer
    status: Status = Status.OPEN
    # Of the order that it became; None unless it was accepted.
    order_id: str | None = None
    # Who ended it and why; None unless it was rejected.
    rejected_by: Actor | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one side offers in one round."""

    price: Money
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class About:
    """What is negotiated over, as its folds stand; None where the stream does not hold it."""

    intent: Intent | None
    quote: Quote | None

    def withdrawn(self) -> Problem | None:
        """Why nothing comes of it any more. Their own ends of time are no reason: what was begun goes on."""
        if self.intent is not None and self.intent.cancelled:
            return Problem(ErrorCode.INTENT_CLOSED, "the intent was cancelled")
        if self.quote is not None and self.quote.withdrawn:
            return Problem(ErrorCode.QUOTE_CLOSED, "the quote was withdrawn")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One side opens on a quote with the first offer."""

    negotiation_id: str
    by: Party
    intent: Intent
    quote: Quote
    terms: Terms
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeOffer:
    """The side whose turn it is answers with an offer of its own."""

    by: Party
    about: About
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """The side whose turn it is takes the standing offer."""

    by: Party
    about: About


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Either side leaves, or the system ends it."""

    by: Actor
    reason: str = "rejected"
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """The system looks whether the standing offer has run out."""


Command = Start | MakeOffer | Accept | Reject | Expire


def order_id_of(negotiation_id: str) -> str:
    """The id of the one order that this negotiation may become."""
    return derived_id("order", negotiation_id)


def decide(state: Negotiation | None, command: Command, now: datetime) -> Decision:
    """The events that the command makes of the state at `now`, or why it makes none."""
    if isinstance(command, Start):
        return _start(state, command, now)
    if state is None:
        return Problem(ErrorCode.NOT_FOUND)
    match command:
        case MakeOffer():
            return _make_offer(state, command, now)
        case Accept():
            return _accept(state, command, now)
        case Reject():
            return _reject(state, command, now)
        case Expire():
            return _expire(state, now)


def evolve(state: Negotiation | None, event: Event) -> Negotiation | None:
    """The state after `event`. What cannot have happened changes nothing: the stream may hold what others wrote."""
    if state is None:
        return _started(event) if isinstance(event, NegotiationStarted) else None
    if state.status is not Status.OPEN:
        return state
    match event:
        case NegotiationOfferMade():
            return replace(state, offer=event.offer)
        case NegotiationAccepted():
            return replace(state, status=Status.ACCEPTED, order_id=event.order_id)
        case NegotiationRejected():
            return replace(state, status=Status.REJECTED, rejected_by=event.by, reason=event.reason)
        case NegotiationStarted():
            return state


def _started(event: NegotiationStarted) -> Negotiation:
    return Negotiation(
        negotiation_id=event.negotiation_id,
        intent_id=event.intent_id,
        quote_id=event.quote_id,
        buyer_id=event.buyer_id,
        node_id=event.node_id,
        quantity=event.quantity,
        offer=event.offer,
    )


def _start(state: Negotiation | None, command: Start, now: datetime) -> Decision:
    if state is not None:
        return Problem(ErrorCode.CONFLICT, "the negotiation exists", retryable=False)
    intent, quote = command.intent, command.quote
    refusal = intent.closed(now) or quote.closed(now) or _unfit(command.terms, quote.price.currency, now)
    if refusal is not None:
        return refusal
    made = NegotiationStarted(
        negotiation_id=command.negotiation_id,
        intent_id=quote.intent_id,
        quote_id=quote.quote_id,
        buyer_id=quote.buyer_id,
        node_id=quote.node_id,
        quantity=command.quantity,
        offer=_offer_of(command.terms, command.by, 1),
    )
    return (made,)


def _make_offer(state: Negotiation, command: MakeOffer, now: datetime) -> Decision:
    refusal = (
        _not_now(state, command.by, command.about, now)
        or _no_round_left(state)
        or _unfit(command.terms, state.offer.price.currency, now)
    )
    if refusal is not None:
        return refusal
    offer = _offer_of(command.terms, command.by, state.offer.round + 1)
    return (NegotiationOfferMade(**_keys(state), offer=offer),)


def _accept(state: Negotiation, command: Accept, now: datetime) -> Decision:
    refusal = _not_now(state, command.by, command.about, now)
    if refusal is not None:
        return refusal
    accepted = NegotiationAccepted(
        **_keys(state),
        order_id=order_id_of(state.negotiation_id),
        by=command.by,
        round=state.offer.round,
        price=state.offer.price,
    )
    return (accepted,)


def _reject(state: Negotiation, command: Reject, now: datetime) -> Decision:
    refusal = _ended(state) or (None if command.by == "system" else _expired(state, now))
    if refusal is not None:
        return refusal
    return (NegotiationRejected(**_keys(state), by=command.by, reason=command.reason, text=command.text),)


def _expire(state: Negotiation, now: datetime) -> Decision:
    if state.status is not Status.OPEN or _expired(state, now) is None:
        return ()
    return (NegotiationRejected(**_keys(state), by="system", reason=EXPIRED),)


def _not_now(state: Negotiation, by: Party, about: About, now: datetime) -> Problem | None:
    """Why this side may not answer the standing offer."""
    if (refusal := _ended(state) or _expired(state, now) or about.withdrawn()) is not None:
        return refusal
    if state.offer.by == by:
        return Problem(ErrorCode.NOT_YOUR_TURN, "the standing offer is your own; the other side answers it")
    return None


def _ended(state: Negotiation) -> Problem | None:
    if state.status is Status.OPEN:
        return None
    return Problem(ErrorCode.NEGOTIATION_CLOSED, f"the negotiation was {state.status.value} before")


def _expired(state: Negotiation, now: datetime) -> Problem | None:
    if now < state.offer.expires_at:
        return None
    return Problem(ErrorCode.OFFER_EXPIRED, "the standing offer has expired, and the negotiation with it")


def _no_round_left(state: Negotiation) -> Problem | None:
    if state.offer.round < MOST_ROUNDS:
        return None
    return Problem(ErrorCode.TOO_MANY_ROUNDS, f"a negotiation has at most {MOST_ROUNDS} rounds; accept or reject")


def _unfit(terms: Terms, currency: str, now: datetime) -> Problem | None:
    """Why these terms can be nobody's offer here."""
    if terms.price.currency != currency:
        return Problem(ErrorCode.CURRENCY_MISMATCH, f"the quote is in {currency}, not in {terms.price.currency}")
    if terms.expires_at <= now:
        return Problem(ErrorCode.EXPIRY_IN_PAST, "expires_at is not in the future")
    return None


def _offer_of(terms: Terms, by: Party, number: int) -> Offer:
    return Offer(round=number, by=by, price=terms.price, expires_at=terms.expires_at)


class _Keys(TypedDict):
    negotiation_id: str
    intent_id: str
    buyer_id: str
    node_id: str


def _keys(state: Negotiation) -> _Keys:
    return {
        "negotiation_id": state.negotiation_id,
        "intent_id": state.intent_id,
        "buyer_id": state.buyer_id,
        "node_id": state.node_id,
    }
