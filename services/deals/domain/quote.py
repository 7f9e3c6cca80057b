"""A quote: a node's offer to fulfil an intent. Live until it is withdrawn or its time is over.

A quote fixes the currency of every negotiation on it. One that is no longer live takes no new negotiation.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from contracts.errors import ErrorCode, Problem
from contracts.events.money import Money
from contracts.events.quote_v1 import QuoteReceived, QuoteWithdrawn
from services.deals.domain.intent import Intent

Event = QuoteReceived | QuoteWithdrawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The fold of a quote's events."""

    quote_id: str
    intent_id: str
    buyer_id: str
    node_id: str
    price: Money
    # After this moment it takes no new negotiation; None where it stands for ever.
    valid_until: datetime | None
    withdrawn: bool = False

    def closed(self, now: datetime) -> Problem | None:
        """Why it takes no new negotiation at `now`, or None where it does."""
        if self.withdrawn:
            return Problem(ErrorCode.QUOTE_CLOSED, "the quote was withdrawn")
        if self.valid_until is not None and now >= self.valid_until:
            return Problem(ErrorCode.QUOTE_CLOSED, "the quote has expired")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Give:
    """A node quotes on an intent."""

    quote_id: str
    node_id: str
    intent: Intent
    price: Money
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """The node takes it back; open negotiations on it end by reaction."""

    reason: str | None = None


Command = Give | Withdraw


def decide(state: Quote | None, command: Command, now: datetime) -> tuple[Event, ...] | Problem:
    """The events that the command makes of the state at `now`, or why it makes none."""
    match command:
        case Give():
            return _give(state, command, now)
        case Withdraw():
            return _withdraw(state, command)


def _give(state: Quote | None, command: Give, now: datetime) -> tuple[Event, ...] | Problem:
    if state is not None:
        return Problem(ErrorCode.CONFLICT, "the quote exists", retryable=False)
    refusal = command.intent.closed(now)
    if refusal is not None:
        return refusal
    if command.valid_until is not None and command.valid_until <= now:
        return Problem(ErrorCode.EXPIRY_IN_PAST, "valid_until is not in the future")
    made = QuoteReceived(
        quote_id=command.quote_id,
        intent_id=command.intent.intent_id,
        buyer_id=command.intent.buyer_id,
        node_id=command.node_id,
        price=command.price,
        valid_until=command.valid_until,
    )
    return (made,)


def _withdraw(state: Quote | None, command: Withdraw) -> tuple[Event, ...] | Problem:
    if state is None:
        return Problem(ErrorCode.NOT_FOUND)
    if state.withdrawn:
        return Problem(ErrorCode.QUOTE_CLOSED, "the quote was withdrawn before")
    taken_back = QuoteWithdrawn(
        quote_id=state.quote_id,
        intent_id=state.intent_id,
        buyer_id=state.buyer_id,
        node_id=state.node_id,
        reason=command.reason,
    )
    return (taken_back,)


def evolve(state: Quote | None, event: Event) -> Quote | None:
    """The state after `event`. What cannot have happened changes nothing: the stream may hold what others wrote."""
    match event:
        case QuoteReceived() if state is None:
            return Quote(
                quote_id=event.quote_id,
                intent_id=event.intent_id,
                buyer_id=event.buyer_id,
                node_id=event.node_id,
                price=event.price,
                valid_until=event.valid_until,
            )
        case QuoteWithdrawn() if state is not None:
            return replace(state, withdrawn=True)
    return state
