"""What deals does of itself when an event is stored: ends the negotiations that cannot come to anything any more.

Each reaction may come twice and in the company of others: what has ended stays as it is. Three that look alike are
all needed (docs/adr/0023): a cancelling ends what had begun before it, a beginning looks whether it came too late,
and an offer is looked at again when its time is over. Only to events of this very service: what others store by
themselves is theirs to end.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contracts.contract import Event
from contracts.events.intent_v1 import IntentCancelled
from contracts.events.negotiation_v1 import NegotiationOfferMade
from contracts.events.negotiation_v2 import NegotiationStarted
from contracts.events.quote_v1 import QuoteWithdrawn
from services.chassis.aggregates import Cause
from services.deals.domain.negotiation import About, Command, Expire, Negotiation, Reject

_INTENT_CANCELLED = Reject(by="system", reason="intent_cancelled")
_QUOTE_WITHDRAWN = Reject(by="system", reason="quote_withdrawn")
# Whatever says which negotiation it is of.
OneNegotiation = Negotiation | NegotiationStarted | NegotiationOfferMade


class Negotiations(Protocol):
    """Where negotiations are."""

    async def open_ones(self, intent_id: str) -> Sequence[Negotiation]:
        """Those of an intent that have not ended."""

    async def about(self, event: NegotiationStarted) -> About:
        """What a negotiation is about, as it stands."""

    async def stands(self, event: NegotiationStarted | NegotiationOfferMade) -> bool:
        """Whether the offer in this event is still the standing one of an open negotiation."""

    async def tell(self, cause: Cause, one: OneNegotiation, command: Command) -> None:
        """Give one a command of the system; one that has ended stays as it is."""


class Reactions:
    """The reactions over one place of negotiations."""

    def __init__(self, negotiations: Negotiations, source: str) -> None:
        """`source` is what events of this service bear."""
        self._negotiations = negotiations
        self._source = source

    async def react(self, event: Event) -> None:
        """End what the event leaves without a purpose."""
        if event.envelope.source != self._source:
            return
        match event.data:
            case IntentCancelled(intent_id=intent_id):
                for one in await self._negotiations.open_ones(intent_id):
                    await self._end(event, one, _INTENT_CANCELLED)
            case QuoteWithdrawn(intent_id=intent_id, quote_id=quote_id):
                for one in await self._negotiations.open_ones(intent_id):
                    if one.quote_id == quote_id:
                        await self._end(event, one, _QUOTE_WITHDRAWN)
            case NegotiationStarted() as started:
                await self._began(event, started)

    async def _began(self, event: Event, started: NegotiationStarted) -> None:
        """A cancelling or withdrawing that was stored just before could not see this negotiation."""
        about = await self._negotiations.about(started)
        if about.intent is not None and about.intent.cancelled:
            await self._end(event, started, _INTENT_CANCELLED)
        elif about.quote is not None and about.quote.withdrawn:
            await self._end(event, started, _QUOTE_WITHDRAWN)

    async def expire(self, event: Event, now: datetime) -> datetime | None:
        """End the negotiation if the offer in this event has run out; when to look again, while it may."""
        if event.envelope.source != self._source:
            return None
        if not isinstance(event.data, NegotiationStarted | NegotiationOfferMade):
            return None
        if now < event.data.offer.expires_at:
            return event.data.offer.expires_at if await self._negotiations.stands(event.data) else None
        await self._end(event, event.data, Expire())
        return None

    async def _end(self, event: Event, one: OneNegotiation, command: Command) -> None:
        await self._negotiations.tell(Cause.event(event), one, command)
