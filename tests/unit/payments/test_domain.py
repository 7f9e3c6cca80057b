"""A payment is asked for once and settled once, for the order's total, and says which message told it."""

from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts.errors import ErrorCode, Problem
from contracts.events.money import Money
from contracts.events.order_v1 import OrderCreated
from contracts.events.payment_v1 import PaymentFailed, PaymentRequested, PaymentSucceeded
from services.payments.domain import Command, Event, Outcome, Payment, Request, Settle, Status, decide, evolve
from tests.harness.decisions import code

ORDER = OrderCreated(
    order_id="o1",
    intent_id="i1",
    negotiation_id="n1",
    buyer_id="ada",
    node_id="oslo",
    total=Money(amount="95.50", currency="EUR"),
)
KEYS = {"order_id": "o1", "intent_id": "i1", "buyer_id": "ada", "node_id": "oslo"}
CANCELLED = PaymentFailed(**KEYS, amount=ORDER.total, reason="order_cancelled")


def settle(outcome: Outcome = "succeeded", *, webhook: str = "w1", reference: str = "psp-1") -> Settle:
    return Settle(webhook_id=webhook, outcome=outcome, reference=reference)


def after(state: Payment | None, *commands: Command) -> Payment:
    for command in commands:
        decision = decide(state, command)
        assert not isinstance(decision, Problem), decision
        for event in decision:
            state = evolve(state, event)
    assert state is not None
    return state


def test_the_orders_total_is_asked_for_once() -> None:
    state = after(None, Request(ORDER))
    assert (state.amount, state.status) == (ORDER.total, Status.REQUESTED)
    assert decide(state, Request(ORDER)) == ()


def test_a_success_is_for_the_whole_amount_and_bears_the_message_that_told_it() -> None:
    (event,) = decide(after(None, Request(ORDER)), settle())  # type: ignore[misc]
    assert event == PaymentSucceeded(**KEYS, amount=ORDER.total, reference="psp-1", webhook_id="w1")


def test_a_failure_says_why() -> None:
    state = after(None, Request(ORDER), Settle(webhook_id="w1", outcome="failed", reference="p", reason="no funds"))
    assert (state.status, state.reason, state.reference) == (Status.FAILED, "no funds", "p")


def test_the_same_message_again_stores_nothing() -> None:
    state = after(None, Request(ORDER), settle())
    assert decide(state, settle()) == ()


def test_another_message_with_the_same_news_stores_nothing() -> None:
    state = after(None, Request(ORDER), settle())
    assert decide(state, settle(webhook="w2")) == ()


def test_a_failure_of_what_was_cancelled_is_no_news() -> None:
    state = evolve(None, CANCELLED)
    assert decide(state, settle("failed")) == ()


def test_other_news_of_a_closed_payment_is_refused() -> None:
    state = after(None, Request(ORDER), settle())
    assert code(decide(state, settle("failed", webhook="w2"))) is ErrorCode.PAYMENT_CLOSED
    assert code(decide(state, settle(webhook="w2", reference="psp-2"))) is ErrorCode.PAYMENT_CLOSED


def test_an_order_cancelled_first_closes_the_payment_for_good() -> None:
    state = evolve(None, CANCELLED)
    assert state is not None
    assert decide(state, Request(ORDER)) == ()
    assert code(decide(state, settle())) is ErrorCode.PAYMENT_CLOSED
    assert evolve(after(None, Request(ORDER)), CANCELLED) == evolve(state, PaymentRequested(**KEYS, amount=ORDER.total))


def test_nothing_is_settled_that_nobody_asked_for() -> None:
    assert code(decide(None, settle())) is ErrorCode.NOT_FOUND


class PaymentLives(RuleBasedStateMachine):
    """Any messages in any order, and a cancelling from outside at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Payment | None = None
        self.events: list[Event] = []

    def store(self, event: Event) -> None:
        self.state = evolve(self.state, event)
        self.events.append(event)

    def take(self, command: Command) -> None:
        decision = decide(self.state, command)
        if not isinstance(decision, Problem):
            for event in decision:
                self.store(event)

    @rule()
    def an_order_is_made(self) -> None:
        self.take(Request(ORDER))

    @rule(
        outcome=st.sampled_from(["succeeded", "failed"]),
        webhook=st.sampled_from(["w1", "w2", "w3"]),
        reference=st.sampled_from(["p1", "p2"]),
    )
    def the_provider_tells(self, outcome: Outcome, webhook: str, reference: str) -> None:
        before = len(self.events)
        self.take(settle(outcome, webhook=webhook, reference=reference))
        stored = len(self.events)
        self.take(settle(outcome, webhook=webhook, reference=reference))
        assert len(self.events) == stored, "a message that came twice was stored twice"
        assert stored - before <= 1

    @rule()
    def the_order_is_cancelled(self) -> None:
        # As orders does it: in one batch, and only while the payment is open.
        if self.state is None or self.state.status is Status.REQUESTED:
            self.store(CANCELLED)

    @invariant()
    def it_is_settled_at_most_once_and_last(self) -> None:
        ends = [event for event in self.events if not isinstance(event, PaymentRequested)]
        assert len(ends) <= 1
        assert ends == self.events[len(self.events) - len(ends) :]

    @invariant()
    def what_is_paid_is_the_orders_total(self) -> None:
        paid = sum(Decimal(event.amount.amount) for event in self.events if isinstance(event, PaymentSucceeded))
        is_paid = self.state is not None and self.state.status is Status.SUCCEEDED
        assert paid == (Decimal(ORDER.total.amount) if is_paid else 0)

    @invariant()
    def the_fold_of_the_events_is_the_state(self) -> None:
        found: Payment | None = None
        for event in self.events:
            found = evolve(found, event)
        assert found == self.state


TestPaymentLives = PaymentLives.TestCase
