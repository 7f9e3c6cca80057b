"""An order: made of an accepted negotiation, confirmed when its payment succeeded, or cancelled. It ends once. Pure.

An order and its payment never disagree: cancelling closes the payment in the same act, and a payment that succeeded
first cannot be cancelled any more. So the payments of all confirmed orders are all the money that ever arrived.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum

from contracts.errors import ErrorCode, Problem
from contracts.events.data import Actor
from contracts.events.money import Money
from contracts.events.negotiation_v1 import NegotiationAccepted
from contracts.events.order_v1 import OrderCancelled, OrderConfirmed, OrderCreated
from contracts.events.payment_v1 import PaymentFailed, PaymentRequested, PaymentSucceeded

PAYMENT_FAILED = "payment_failed"
ORDER_CANCELLED = "order_cancelled"

Event = OrderCreated | OrderConfirmed | OrderCancelled
PaymentEvent = PaymentRequested | PaymentSucceeded | PaymentFailed


class Status(Enum):
    """Where an order is; the last two are its ends."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class Payment(Enum):
    """Where an order's payment is; payments decides it, and an order has to know."""

    REQUESTED = "requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The fold of an order's events."""

    order_id: str
    intent_id: str
    buyer_id: str
    node_id: str
    negotiation_id: str
    total: Money
    status: Status = Status.OPEN
    # The payment's own, once confirmed.
    reference: str | None = None
    # Who cancelled it and why, once cancelled.
    cancelled_by: Actor | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Somebody does not want it any more."""

    by: Actor
    reason: str


def create(state: Order | None, accepted: NegotiationAccepted) -> tuple[Event, ...]:
    """The order that an accepted negotiation becomes, once."""
    if state is not None:
        return ()
    created = OrderCreated(
        order_id=accepted.order_id,
        intent_id=accepted.intent_id,
        negotiation_id=accepted.negotiation_id,
        buyer_id=accepted.buyer_id,
        node_id=accepted.node_id,
        total=accepted.price,
    )
    return (created,)


def settle(state: Order | None, payment: PaymentSucceeded | PaymentFailed) -> tuple[Event, ...] | Problem:
    """What the end of its payment makes of an order. A Problem is a contradiction that somebody has to look at."""
    if state is None:
        return ()  # somebody else's order, of whom only the payment is stored here
    match payment:
        case PaymentSucceeded():
            return _paid(state, payment)
        case PaymentFailed():
            return _not_paid(state)


def _paid(state: Order, payment: PaymentSucceeded) -> tuple[Event, ...] | Problem:
    if state.status is Status.CONFIRMED:
        return ()
    if state.status is Status.CANCELLED:
        return Problem(ErrorCode.ORDER_CLOSED, "the payment of a cancelled order succeeded")
    if not _is_same(payment.amount, state.total):
        return Problem(ErrorCode.CURRENCY_MISMATCH, "what was paid is not the order's total")
    return (OrderConfirmed(**_keys(state), order_id=state.order_id, reference=payment.reference),)


def _not_paid(state: Order) -> tuple[Event, ...] | Problem:
    if state.status is Status.CANCELLED:
        return ()
    if state.status is Status.CONFIRMED:
        return Problem(ErrorCode.ORDER_PAID, "the payment of a confirmed order failed")
    return (_cancelled(state, "system", PAYMENT_FAILED),)


def cancel(
    state: Order | None, payment: Payment | None, command: Cancel
) -> tuple[Event | PaymentFailed, ...] | Problem:
    """The end of the order and of its payment, together; neither happens without the other."""
    if state is None:
        return Problem(ErrorCode.NOT_FOUND)
    if state.status is Status.CANCELLED:
        return Problem(ErrorCode.ORDER_CLOSED, "the order was cancelled before")
    if state.status is Status.CONFIRMED or payment is Payment.SUCCEEDED:
        return Problem(ErrorCode.ORDER_PAID)
    if payment is Payment.FAILED:
        return Problem(ErrorCode.ORDER_CLOSED, "the order's payment failed, which cancels it")
    closed = PaymentFailed(**_keys(state), order_id=state.order_id, amount=state.total, reason=ORDER_CANCELLED)
    return (_cancelled(state, command.by, command.reason), closed)


def _cancelled(state: Order, by: Actor, reason: str) -> OrderCancelled:
    return OrderCancelled(**_keys(state), order_id=state.order_id, by=by, reason=reason)


def _keys(state: Order) -> dict[str, str]:
    return {"intent_id": state.intent_id, "buyer_id": state.buyer_id, "node_id": state.node_id}


def _is_same(one: Money, other: Money) -> bool:
    return one.currency == other.currency and Decimal(one.amount) == Decimal(other.amount)


def evolve(state: Order | None, event: Event) -> Order | None:
    """The state after `event`. What cannot have happened changes nothing: the stream may hold what others wrote."""
    match event:
        case OrderCreated() if state is None:
            return Order(
                order_id=event.order_id,
                intent_id=event.intent_id,
                buyer_id=event.buyer_id,
                node_id=event.node_id,
                negotiation_id=event.negotiation_id,
                total=event.total,
            )
        case OrderConfirmed() if state is not None and state.status is Status.OPEN:
            return replace(state, status=Status.CONFIRMED, reference=event.reference)
        case OrderCancelled() if state is not None and state.status is Status.OPEN:
            return replace(state, status=Status.CANCELLED, cancelled_by=event.by, reason=event.reason)
    return state


def evolve_payment(state: Payment | None, event: PaymentEvent) -> Payment | None:
    """Where the payment is after `event`; it ends once."""
    if state in (Payment.SUCCEEDED, Payment.FAILED):
        return state
    match event:
        case PaymentRequested():
            return Payment.REQUESTED
        case PaymentSucceeded():
            return Payment.SUCCEEDED
        case PaymentFailed():
            return Payment.FAILED
