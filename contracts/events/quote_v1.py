"""Events of a quote, version 1: a node's offer to fulfil an intent, and its withdrawal."""

from contracts.events.data import Data, DealData, Id, Text
from contracts.events.moment import Moment
from contracts.events.money import Money


class QuoteReceived(Data):
    """A node offers to fulfil an intent."""

    quote_id: Id
    intent_id: Id
    buyer_id: Id
    node_id: Id
    price: Money
    valid_until: Moment | None = None


class QuoteWithdrawn(DealData):
    """The node stands by its quote no more; what is still negotiated over it ends."""

    quote_id: Id
    reason: Text | None = None
