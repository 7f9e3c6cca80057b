"""Events of a payment, version 1: asked for, then succeeded or failed, once. A payment bears its order's id."""

from contracts.events.data import Data, DealData, ForeignId, Id, Text
from contracts.events.money import Money


class PaymentRequested(DealData):
    """The order's total is asked for."""

    order_id: Id
    amount: Money


class PaymentSucceeded(Data):
    """The order's payment arrived; a payment bears its order's id."""

    order_id: Id
    intent_id: Id
    buyer_id: Id
    node_id: Id
    amount: Money
    reference: Text
    # The provider's message that said so.
    webhook_id: ForeignId | None = None


class PaymentFailed(DealData):
    """The order's payment will not arrive, or may not any more."""

    order_id: Id
    amount: Money
    reason: Text
    reference: Text | None = None
    webhook_id: ForeignId | None = None
