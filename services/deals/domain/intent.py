"""An intent: what a buyer wants. Open until it is cancelled or its time is over.

An intent that is closed takes no new quotes and no new negotiations; what was begun before goes on, unless it was
cancelled. Decides nothing of who asks: that is `parties`.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from contracts.errors import ErrorCode, Problem
from contracts.events.intent_v1 import IntentCancelled, IntentCreated
from contracts.events.money import Money

Event = IntentCreated | IntentCancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The fold of an intent's events."""

    intent_id: str
    buyer_id: str
    title: str
    quantity: int
    budget: Money | None
    # After this moment it takes nothing new; None where it waits for ever.
    expires_at: datetime | None
    cancelled: bool = False

    def closed(self, now: datetime) -> Problem | None:
        """Why it takes nothing new at `now`, or None where it does."""
        if self.cancelled:
            return Problem(ErrorCode.INTENT_CLOSED, "the intent was cancelled")
        if self.expires_at is not None and now >= self.expires_at:
            return Problem(ErrorCode.INTENT_CLOSED, "the intent has expired")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A buyer says what it wants."""

    intent_id: str
    buyer_id: str
    title: str
    quantity: int = 1
    budget: Money | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The buyer does not want it any more; open negotiations end by reaction."""

    reason: str | None = None


Command = Create | Cancel


def decide(state: Intent | None, command: Command, now: datetime) -> tuple[Event, ...] | Problem:
    """The events that the command makes of the state at `now`, or why it makes none."""
    match command:
        case Create():
            return _create(state, command, now)
        case Cancel():
            return _cancel(state, command)


def _create(state: Intent | None, command: Create, now: datetime) -> tuple[Event, ...] | Problem:
    if state is not None:
        return Problem(ErrorCode.CONFLICT, "the intent exists", retryable=False)
    if command.expires_at is not None and command.expires_at <= now:
        return Problem(ErrorCode.EXPIRY_IN_PAST, "expires_at is not in the future")
    made = IntentCreated(
        intent_id=command.intent_id,
        buyer_id=command.buyer_id,
        title=command.title,
        quantity=command.quantity,
        budget=command.budget,
        expires_at=command.expires_at,
    )
    return (made,)


def _cancel(state: Intent | None, command: Cancel) -> tuple[Event, ...] | Problem:
    if state is None:
        return Problem(ErrorCode.NOT_FOUND)
    if state.cancelled:
        return Problem(ErrorCode.INTENT_CLOSED, "the intent was cancelled before")
    return (IntentCancelled(intent_id=state.intent_id, buyer_id=state.buyer_id, reason=command.reason),)


def evolve(state: Intent | None, event: Event) -> Intent | None:
    """The state after `event`. What cannot have happened changes nothing: the stream may hold what others wrote."""
    match event:
        case IntentCreated() if state is None:
            return Intent(
                intent_id=event.intent_id,
                buyer_id=event.buyer_id,
                title=event.title,
                quantity=event.quantity,
                budget=event.budget,
                expires_at=event.expires_at,
            )
        case IntentCancelled() if state is not None:
            return replace(state, cancelled=True)
    return state
