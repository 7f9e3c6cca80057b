"""A payment: asked for when its order is made, and settled once. Pure: moments and ids come in.

It bears its order's id, and it is closed for good by whichever comes first: the provider's word, or the
cancelling of its order. Money that arrives at a closed payment is refused, and is to be given back.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from contracts.errors import ErrorCode, Problem
from contracts.events.money import Money
from contracts.events.order_v1 import OrderCreated
from contracts.events.payment_v1 import PaymentFailed, PaymentRequested, PaymentSucceeded

Event = PaymentRequested | PaymentSucceeded | PaymentFailed
Outcome = Literal["succeeded", "failed"]
Decision = tuple[Event, ...] | Problem


class Status(Enum):
    """Where a payment is; the last two are its ends."""

    REQUESTED = "requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The fold of a payment's events."""

    order_id: str
    intent_id: str
    buyer_id: str
    node_id: str
    amount: Money
    status: Status
    # The provider's own name for it; None until it told one.
    reference: str | None = None
    # Why it failed; None unless it did.
    reason: str | None = None
    # The provider's messages that were acted upon.
    webhook_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """An order was made: its total is asked for."""

    order: OrderCreated


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """The provider tells how it went, in the message `webhook_id`."""

    webhook_id: str
    outcome: Outcome
    reference: str
    reason: str | None = None


Command = Request | Settle


def decide(state: Payment | None, command: Command) -> Decision:
    """The events that the command makes of the state, or why it makes none. What was done before makes none."""
    if isinstance(command, Request):
        return () if state is not None else (_requested(command.order),)
    if state is None:
        return Problem(ErrorCode.NOT_FOUND, "there is no payment of this order")
    return _settle(state, command)


def _requested(order: OrderCreated) -> PaymentRequested:
    return PaymentRequested(
        order_id=order.order_id,
        intent_id=order.intent_id,
        buyer_id=order.buyer_id,
        node_id=order.node_id,
        amount=order.total,
    )


def _settle(state: Payment, command: Settle) -> Decision:
    if command.webhook_id in state.webhook_ids or _says_the_same(state, command):
        return ()
    if state.status is not Status.REQUESTED:
        told = f"the payment {state.status.value} before"
        return Problem(ErrorCode.PAYMENT_CLOSED, f"{told}: {state.reason}" if state.reason else told)
    return (_settled(state, command),)


def _says_the_same(state: Payment, command: Settle) -> bool:
    """Whether another message of the provider tells what is known. A success under another name is other money."""
    if state.status is Status.FAILED:
        return command.outcome == "failed"
    return state.status.value == command.outcome and state.reference == command.reference


def _settled(state: Payment, command: Settle) -> PaymentSucceeded | PaymentFailed:
    if command.outcome == "succeeded":
        return PaymentSucceeded(
            order_id=state.order_id,
            intent_id=state.intent_id,
            buyer_id=state.buyer_id,
            node_id=state.node_id,
            amount=state.amount,
            reference=command.reference,
            webhook_id=command.webhook_id,
        )
    return PaymentFailed(
        order_id=state.order_id,
        intent_id=state.intent_id,
        buyer_id=state.buyer_id,
        node_id=state.node_id,
        amount=state.amount,
        reason=command.reason or "declined",
        reference=command.reference,
        webhook_id=command.webhook_id,
    )


def evolve(state: Payment | None, event: Event) -> Payment | None:
    """The state after `event`. What cannot have happened changes nothing: the stream may hold what others wrote."""
    if state is not None and state.status is not Status.REQUESTED:
        return state
    match event:
        case PaymentRequested():
            return state or _payment(event, Status.REQUESTED)
        case PaymentSucceeded():
            known = state or _payment(event, Status.SUCCEEDED)
            return replace(known, status=Status.SUCCEEDED, reference=event.reference, webhook_ids=_heard(event))
        case PaymentFailed():
            known = state or _payment(event, Status.FAILED)
            found = replace(known, status=Status.FAILED, reason=event.reason, webhook_ids=_heard(event))
            return replace(found, reference=event.reference)


def _payment(event: Event, status: Status) -> Payment:
    return Payment(
        order_id=event.order_id,
        intent_id=event.intent_id,
        buyer_id=event.buyer_id,
        node_id=event.node_id,
        amount=event.amount,
        status=status,
    )


def _heard(event: PaymentSucceeded | PaymentFailed) -> frozenset[str]:
    return frozenset() if event.webhook_id is None else frozenset({event.webhook_id})
