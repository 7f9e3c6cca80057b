"""Events of an intent, version 1: what a buyer's agent wants, and that it wants it no more."""

from pydantic import Field

from contracts.events.data import Data, Id, Text
from contracts.events.moment import Moment
from contracts.events.money import Money


class IntentCreated(Data):
    """A buyer's agent says what it wants."""

    intent_id: Id
    buyer_id: Id
    title: Text
    quantity: int = Field(default=1, ge=1, strict=True)
    budget: Money | None = None
    expires_at: Moment | None = None


class IntentCancelled(Data):
    """The buyer wants it no more; what is still negotiated over it ends."""

    intent_id: Id
    buyer_id: Id
    reason: Text | None = None
