"""An order's rules: how it begins, how it ends, and that order and payment never disagree."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import TypeAdapter

from contracts.errors import ErrorCode, Problem
from contracts.events.money import Money
from contracts.events.negotiation_v1 import NegotiationAccepted
from contracts.events.order_v1 import OrderCancelled, OrderConfirmed, OrderCreated
from contracts.events.payment_v1 import PaymentFailed, PaymentRequested, PaymentSucceeded
from services.orders.domain import (
    Cancel,
    Order,
    Payment,
    Status,
    cancel,
    create,
    evolve,
    evolve_payment,
    settle,
)

KEYS: dict[str, Any] = {"intent_id": "i", "buyer_id": "b", "node_id": "n"}
TOTAL = Money(amount="12.50", currency="EUR")
ACCEPTED = NegotiationAccepted(**KEYS, negotiation_id="g", order_id="o", by="buyer", round=1, price=TOTAL)
PAID = PaymentSucceeded(**KEYS, order_id="o", amount=Money(amount="12.5", currency="EUR"), reference="psp-1")
FAILED = PaymentFailed(**KEYS, order_id="o", amount=TOTAL, reason="declined")
BY_BUYER = Cancel(by="buyer", reason="changed my mind")


def folded(*events: Any) -> Order:
    state: Order | None = None
    for event in events:
        state = evolve(state, event)
    assert state is not None
    return state


def events_of(decided: Any) -> tuple[Any, ...]:
    assert not isinstance(decided, Problem)
    found: tuple[Any, ...] = decided
    return found


def code_of(decided: Any) -> ErrorCode:
    assert isinstance(decided, Problem)
    return decided.code


CREATED = create(None, ACCEPTED)[0]
OPEN = folded(CREATED)
CONFIRMED = folded(CREATED, *events_of(settle(OPEN, PAID)))
CANCELLED = folded(CREATED, *events_of(settle(OPEN, FAILED)))


def test_an_accepted_negotiation_becomes_an_order_of_its_price_once() -> None:
    assert (OPEN.status, OPEN.total, OPEN.negotiation_id) == (Status.OPEN, TOTAL, "g")
    assert create(OPEN, ACCEPTED) == ()


def test_money_is_compared_as_numbers() -> None:
    assert CONFIRMED.status is Status.CONFIRMED
    assert CONFIRMED.reference == "psp-1"


@pytest.mark.parametrize("amount", [Money(amount="12.49", currency="EUR"), Money(amount="12.50", currency="USD")])
def test_a_payment_of_another_sum_is_a_contradiction(amount: Money) -> None:
    other = PaymentSucceeded(**KEYS, order_id="o", amount=amount, reference="r")
    assert code_of(settle(OPEN, other)) is ErrorCode.CURRENCY_MISMATCH


def test_a_payment_that_failed_cancels_the_order() -> None:
    assert (CANCELLED.status, CANCELLED.cancelled_by, CANCELLED.reason) == (
        Status.CANCELLED,
        "system",
        "payment_failed",
    )


def test_an_end_that_is_there_already_is_left_alone() -> None:
    assert settle(CONFIRMED, PAID) == ()
    assert settle(CANCELLED, FAILED) == ()
    assert settle(None, PAID) == settle(None, FAILED) == ()


def test_an_end_against_the_other_is_a_contradiction() -> None:
    assert code_of(settle(CANCELLED, PAID)) is ErrorCode.ORDER_CLOSED
    assert code_of(settle(CONFIRMED, FAILED)) is ErrorCode.ORDER_PAID


def test_cancelling_ends_order_and_payment_together() -> None:
    for payment in (None, Payment.REQUESTED):
        cancelled, failed = events_of(cancel(OPEN, payment, BY_BUYER))
        assert folded(CREATED, cancelled).reason == "changed my mind"
        assert (failed.amount, failed.reason) == (TOTAL, "order_cancelled")
        assert evolve_payment(payment, failed) is Payment.FAILED


@pytest.mark.parametrize(
    ("order", "payment", "code"),
    [
        (None, None, ErrorCode.NOT_FOUND),
        (CANCELLED, Payment.FAILED, ErrorCode.ORDER_CLOSED),
        (OPEN, Payment.FAILED, ErrorCode.ORDER_CLOSED),
        (OPEN, Payment.SUCCEEDED, ErrorCode.ORDER_PAID),
        (CONFIRMED, Payment.SUCCEEDED, ErrorCode.ORDER_PAID),
        (CONFIRMED, None, ErrorCode.ORDER_PAID),
    ],
)
def test_what_has_ended_or_is_paid_cannot_be_cancelled(
    order: Order | None, payment: Payment | None, code: ErrorCode
) -> None:
    assert code_of(cancel(order, payment, BY_BUYER)) is code


def test_events_that_cannot_have_happened_change_nothing() -> None:
    confirmed = OrderConfirmed(**KEYS, order_id="o", reference="late")
    cancelled = OrderCancelled(**KEYS, order_id="o", by="system", reason="late")
    assert evolve(None, confirmed) is evolve(None, cancelled) is None
    assert evolve(CONFIRMED, cancelled) == evolve(CONFIRMED, CREATED) == CONFIRMED
    assert evolve(CANCELLED, confirmed) == CANCELLED


def test_states_survive_a_snapshot() -> None:
    for kind, states in ((Order, [OPEN, CONFIRMED, CANCELLED]), (Payment, list(Payment))):
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        for state in states:
            assert adapter.validate_python(adapter.dump_python(state, mode="json")) == state


class Deals(RuleBasedStateMachine):
    """Orders and payments as their streams would have them: each reaction once, twice, or late, and cancels between.

    An order's reactions see the events of its payment in order, but when they like; a decision is stored only on the
    state on which it was made, as the expected sequences see to.
    """

    @initialize(price=st.decimals("0.01", "99999", places=2))
    def begin(self, price: Decimal) -> None:
        total = Money(amount=str(price), currency="EUR")
        self.accepted = ACCEPTED.model_copy(update={"price": total})
        self.total = total
        self.orders: list[Any] = []
        self.payments: list[Any] = []
        # How many of the payment's events the order's reaction has seen.
        self.reacted = 0
        self.received = Decimal(0)

    @property
    def order(self) -> Order | None:
        return None if not self.orders else folded(*self.orders)

    @property
    def payment(self) -> Payment | None:
        state: Payment | None = None
        for event in self.payments:
            state = evolve_payment(state, event)
        return state

    @rule()
    def accept(self) -> None:
        self.orders += create(self.order, self.accepted)

    @precondition(lambda self: self.orders and self.payment is None)
    @rule()
    def request(self) -> None:
        self.payments.append(PaymentRequested(**KEYS, order_id="o", amount=self.total))

    @precondition(lambda self: self.payment is Payment.REQUESTED)
    @rule(good=st.booleans())
    def provide(self, good: bool) -> None:
        if good:
            self.payments.append(PAID.model_copy(update={"amount": self.total}))
            self.received += Decimal(self.total.amount)
        else:
            self.payments.append(FAILED.model_copy(update={"amount": self.total}))

    @precondition(lambda self: self.reacted < len(self.payments))
    @rule(again=st.booleans())
    def react(self, again: bool) -> None:
        event = self.payments[self.reacted]
        if isinstance(event, PaymentSucceeded | PaymentFailed):
            self.orders += events_of(settle(self.order, event))
        self.reacted += not again

    @rule(by=st.sampled_from(["buyer", "node", "system"]))
    def cancel(self, by: Any) -> None:
        decided = cancel(self.order, self.payment, Cancel(by=by, reason="r"))
        if not isinstance(decided, Problem):
            cancelled, failed = decided
            self.orders.append(cancelled)
            self.payments.append(failed)

    @invariant()
    def each_ends_at_most_once(self) -> None:
        ends = [type(event) for event in self.orders if not isinstance(event, OrderCreated)]
        assert len(ends) <= 1
        assert len([event for event in self.payments if not isinstance(event, PaymentRequested)]) <= 1

    @invariant()
    def order_and_money_never_disagree(self) -> None:
        order = self.order
        if order is None:
            assert not self.payments
            return
        if order.status is Status.CONFIRMED:
            assert (self.payment, self.received) == (Payment.SUCCEEDED, Decimal(order.total.amount))
        if order.status is Status.CANCELLED:
            assert (self.payment, self.received) == (Payment.FAILED, Decimal(0))

    def teardown(self) -> None:
        if not hasattr(self, "orders"):
            return
        while self.reacted < len(self.payments):  # every message comes in the end
            self.react(False)
        order = self.order
        confirmed = Decimal(order.total.amount) if order and order.status is Status.CONFIRMED else Decimal(0)
        assert confirmed == self.received


TestDeals = Deals.TestCase
