"""The composition root of deals: what it offers over HTTP, and what it does of itself."""

from datetime import UTC, datetime

from contracts.contract import Event
from services.chassis.publisher import Definition, Parts
from services.chassis.reactions import Later, Source
from services.deals.handlers import Reactions
from services.deals.routes import Routes
from services.deals.settings import DealsSettings
from services.deals.store import Deals

SERVICE = "deals"
DESCRIPTION = "Intents, quotes and negotiations: what buyers want, what nodes offer, and how they agree."
_SOURCE = f"urn:a2a:service:{SERVICE}"


def define(_: DealsSettings, parts: Parts) -> Definition:
    """The service, as data."""
    deals = Deals(parts.store, _now)
    return Definition(Routes(deals).operations(), _sources(Reactions(deals, _SOURCE)))


def _now() -> datetime:
    return datetime.now(UTC)


def _sources(reactions: Reactions) -> tuple[Source, ...]:
    async def end(event: Event) -> None:
        await reactions.react(event)

    async def expire(event: Event) -> Later | None:
        due = await reactions.expire(event, _now())
        return None if due is None else Later(due)

    return (
        Source("endings", {"INTENT_CANCELLED": end, "QUOTE_WITHDRAWN": end, "NEGOTIATION_STARTED": end}),
        Source("expiry", {"NEGOTIATION_STARTED": expire, "NEGOTIATION_OFFER_MADE": expire}, timers=True),
    )
