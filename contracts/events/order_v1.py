"""Events of an order, version 1: made of an accepted negotiation, then confirmed or cancelled, once."""

from contracts.events.data import Actor, Data, DealData, Id, Text
from contracts.events.money import Money


class OrderCreated(Data):
    """An accepted negotiation became an order."""

    order_id: Id
    intent_id: Id
    negotiation_id: Id
    buyer_id: Id
    node_id: Id
    total: Money


class OrderConfirmed(DealData):
    """The order is paid and stands."""

    order_id: Id
    # The payment's own.
    reference: Text


class OrderCancelled(DealData):
    """The order is void; nothing is owed for it."""

    order_id: Id
    by: Actor
    reason: Text
