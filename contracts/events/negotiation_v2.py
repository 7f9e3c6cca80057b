"""NEGOTIATION_STARTED, version 2: the opening offer is an offer like every later one, and always expires."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from contracts.events.cloudevent import CloudEvent
from contracts.events.data import DealData, Id
from contracts.events.negotiation_v1 import Offer

OPENING_LASTS = timedelta(days=7)
"""How long an opening offer of version 1 stands that names no end."""


class NegotiationStarted(DealData):
    """Buyer or node opens a negotiation over a quote with the offer of round 1."""

    negotiation_id: Id
    quote_id: Id
    quantity: int = Field(ge=1, strict=True)
    offer: Offer


def from_v1(event: CloudEvent) -> dict[str, Any]:
    """The `data` of version 2 of an event of version 1: there the buyer opened, for one piece."""
    data = dict(event.data)
    price = data.pop("opening_offer")
    expires_at = data.pop("expires_at", None) or _after(event.time).isoformat().replace("+00:00", "Z")
    offer = {"round": 1, "by": "buyer", "price": price, "expires_at": expires_at}
    return {**data, "quantity": 1, "offer": offer}


def _after(opened: datetime) -> datetime:
    try:
        return opened + OPENING_LASTS
    except OverflowError:  # the calendar's last week
        return datetime.max.replace(tzinfo=UTC)
