"""A negotiation: sides alternate, nothing expired is accepted, it ends once, and its price is the last offer's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.errors import ErrorCode, Problem
from contracts.events.data import Actor, Party
from contracts.events.money import Money
from contracts.events.negotiation_v1 import NegotiationAccepted, NegotiationOfferMade, NegotiationRejected
from contracts.events.negotiation_v2 import NegotiationStarted
from contracts.subjects import is_id
from services.deals.domain.intent import Intent
from services.deals.domain.negotiation import (
    MOST_ROUNDS,
    About,
    Accept,
    Command,
    Event,
    Expire,
    MakeOffer,
    Negotiation,
    Reject,
    Start,
    Status,
    Terms,
    decide,
    evolve,
    order_id_of,
)
from services.deals.domain.quote import Quote
from tests.harness.decisions import code

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INTENT = Intent(intent_id="i1", buyer_id="ada", title="t", quantity=1, budget=None, expires_at=NOW + 240 * HOUR)
QUOTE = Quote(
    quote_id="q1",
    intent_id="i1",
    buyer_id="ada",
    node_id="oslo",
    price=Money(amount="100.00", currency="EUR"),
    valid_until=NOW + 120 * HOUR,
)
ABOUT = About(INTENT, QUOTE)
OTHER: dict[Party, Party] = {"buyer": "node", "node": "buyer"}


def euros(amount: int) -> Money:
    return Money(amount=f"{amount}.00", currency="EUR")


def terms(amount: int = 90, hours: int = 1, now: datetime = NOW) -> Terms:
    return Terms(price=euros(amount), expires_at=now + hours * HOUR)


def start(by: Party = "buyer", intent: Intent = INTENT, quote: Quote = QUOTE, offer: Terms | None = None) -> Start:
    return Start(negotiation_id="n1", by=by, intent=intent, quote=quote, terms=offer or terms(), quantity=2)


def after(state: Negotiation | None, *commands: Command, now: datetime = NOW) -> Negotiation:
    for command in commands:
        decision = decide(state, command, now)
        assert not isinstance(decision, Problem), decision
        for event in decision:
            state = evolve(state, event)
    assert state is not None
    return state


def test_the_opening_offer_is_round_one_of_who_opens() -> None:
    state = after(None, start("node"))
    assert (state.offer.round, state.offer.by, state.offer.price) == (1, "node", euros(90))
    assert (state.quantity, state.buyer_id, state.node_id) == (2, "ada", "oslo")


def test_an_offer_is_answered_by_the_other_side_only() -> None:
    state = after(None, start("buyer"))
    assert code(decide(state, Accept(by="buyer", about=ABOUT), NOW)) is ErrorCode.NOT_YOUR_TURN
    assert code(decide(state, MakeOffer(by="buyer", about=ABOUT, terms=terms()), NOW)) is ErrorCode.NOT_YOUR_TURN
    state = after(state, MakeOffer(by="node", about=ABOUT, terms=terms(95)))
    assert (state.offer.round, state.offer.by, state.offer.price) == (2, "node", euros(95))


def test_an_accepted_negotiation_is_one_order_at_the_price_of_the_last_offer() -> None:
    state = after(None, start("buyer"), MakeOffer(by="node", about=ABOUT, terms=terms(95)))
    accepted = decide(state, Accept(by="buyer", about=ABOUT), NOW)
    assert isinstance(accepted, tuple)
    (event,) = accepted
    assert isinstance(event, NegotiationAccepted)
    assert (event.price, event.round, event.order_id) == (euros(95), 2, order_id_of("n1"))
    assert is_id(event.order_id)
    assert order_id_of("n1") != order_id_of("n2")


def test_an_offer_is_accepted_before_its_expiry_and_not_at_it() -> None:
    state = after(None, start("buyer"))
    last = NOW + HOUR - timedelta(microseconds=1)
    assert isinstance(decide(state, Accept(by="node", about=ABOUT), last), tuple)
    assert code(decide(state, Accept(by="node", about=ABOUT), NOW + HOUR)) is ErrorCode.OFFER_EXPIRED


@pytest.mark.parametrize("command", [MakeOffer(by="node", about=ABOUT, terms=terms(95, 9)), Reject(by="buyer")])
def test_an_expired_offer_ends_the_negotiation_for_its_parties(command: Command) -> None:
    assert code(decide(after(None, start("buyer")), command, NOW + HOUR)) is ErrorCode.OFFER_EXPIRED


def test_the_system_rejects_what_has_expired_once_and_nothing_else() -> None:
    state = after(None, start("buyer"))
    assert decide(state, Expire(), NOW) == ()
    state = after(state, Expire(), now=NOW + HOUR)
    assert (state.status, state.rejected_by, state.reason) == (Status.REJECTED, "system", "expired")
    assert decide(state, Expire(), NOW + HOUR) == ()


def test_a_later_offer_has_its_own_expiry() -> None:
    state = after(None, start("buyer"), MakeOffer(by="node", about=ABOUT, terms=terms(95, 9)))
    assert decide(state, Expire(), NOW + HOUR) == ()


@pytest.mark.parametrize("by", ["buyer", "node", "system"])
def test_anybody_of_the_deal_may_end_it_whoever_is_next(by: Actor) -> None:
    state = after(None, start("buyer"), Reject(by=by, reason="rejected", text="too dear"))
    assert (state.status, state.rejected_by) == (Status.REJECTED, by)


@pytest.mark.parametrize("end", [Reject(by="buyer"), Accept(by="node", about=ABOUT)])
@pytest.mark.parametrize(
    "command",
    [
        MakeOffer(by="node", about=ABOUT, terms=terms()),
        Accept(by="node", about=ABOUT),
        Reject(by="node"),
        Reject(by="system", reason="quote_withdrawn"),
    ],
)
def test_what_has_ended_stays_as_it_is(end: Command, command: Command) -> None:
    assert code(decide(after(None, start("buyer"), end), command, NOW)) is ErrorCode.NEGOTIATION_CLOSED


@pytest.mark.parametrize(
    ("intent", "quote", "wanted"),
    [
        (replace(INTENT, cancelled=True), QUOTE, ErrorCode.INTENT_CLOSED),
        (replace(INTENT, expires_at=NOW), QUOTE, ErrorCode.INTENT_CLOSED),
        (INTENT, replace(QUOTE, withdrawn=True), ErrorCode.QUOTE_CLOSED),
        (INTENT, replace(QUOTE, valid_until=NOW), ErrorCode.QUOTE_CLOSED),
    ],
)
def test_nothing_begins_on_a_closed_intent_or_quote(intent: Intent, quote: Quote, wanted: ErrorCode) -> None:
    assert code(decide(None, start(intent=intent, quote=quote), NOW)) is wanted


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        (About(replace(INTENT, cancelled=True), QUOTE), ErrorCode.INTENT_CLOSED),
        (About(INTENT, replace(QUOTE, withdrawn=True)), ErrorCode.QUOTE_CLOSED),
    ],
)
def test_what_was_taken_back_is_not_accepted_though_the_negotiation_is_still_open(
    about: About, wanted: ErrorCode
) -> None:
    state = after(None, start("buyer"))
    assert code(decide(state, Accept(by="node", about=about), NOW)) is wanted
    assert code(decide(state, MakeOffer(by="node", about=about, terms=terms()), NOW)) is wanted


def test_what_was_begun_in_time_may_end_after_the_quote_has_expired() -> None:
    state = after(None, start("buyer", offer=terms(90, 200)))
    assert isinstance(decide(state, Accept(by="node", about=ABOUT), NOW + 150 * HOUR), tuple)


def test_a_deal_has_the_currency_of_its_quote() -> None:
    dollars = Terms(price=Money(amount="90.00", currency="USD"), expires_at=NOW + HOUR)
    assert code(decide(None, start(offer=dollars), NOW)) is ErrorCode.CURRENCY_MISMATCH
    state = after(None, start("buyer"))
    assert code(decide(state, MakeOffer(by="node", about=ABOUT, terms=dollars), NOW)) is ErrorCode.CURRENCY_MISMATCH


def test_an_offer_that_would_be_over_at_once_is_refused() -> None:
    assert code(decide(None, start(offer=terms(hours=0)), NOW)) is ErrorCode.EXPIRY_IN_PAST


def test_after_the_last_round_there_is_only_yes_or_no() -> None:
    state, side = after(None, start("buyer")), "node"
    for _ in range(MOST_ROUNDS - 1):
        state = after(state, MakeOffer(by=side, about=ABOUT, terms=terms()))  # type: ignore[arg-type]
        side = OTHER[side]  # type: ignore[index]
    assert state.offer.round == MOST_ROUNDS
    more = MakeOffer(by="node" if state.offer.by == "buyer" else "buyer", about=ABOUT, terms=terms())
    assert code(decide(state, more, NOW)) is ErrorCode.TOO_MANY_ROUNDS
    assert after(state, Accept(by=more.by, about=ABOUT)).status is Status.ACCEPTED


def test_what_is_not_there_takes_no_commands() -> None:
    for command in (Reject(by="buyer"), Expire(), Accept(by="node", about=ABOUT)):
        assert code(decide(None, command, NOW)) is ErrorCode.NOT_FOUND
    assert evolve(None, NegotiationRejected(**KEYS, by="system", reason="expired")) is None


KEYS = {"negotiation_id": "n1", "intent_id": "i1", "buyer_id": "ada", "node_id": "oslo"}


class NegotiationLives(RuleBasedStateMachine):
    """Any commands of anybody at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.about = ABOUT
        self.state: Negotiation | None = None
        self.events: list[Event] = []

    def take(self, command: Command) -> None:
        before = self.state
        decision = decide(before, command, self.now)
        if isinstance(decision, Problem):
            return
        for event in decision:
            self.judge(before, event)
            self.state = evolve(self.state, event)
            self.events.append(event)

    def judge(self, before: Negotiation | None, event: Event) -> None:
        """What no command may make happen, written apart from the code under test."""
        if before is None:
            assert isinstance(event, NegotiationStarted)
            return
        assert before.status is Status.OPEN
        over = self.now >= before.offer.expires_at
        taken_back = self.about.withdrawn() is not None
        if isinstance(event, NegotiationAccepted):
            assert not over
            assert not taken_back
            assert (event.by, event.price) == (OTHER[before.offer.by], before.offer.price)
        if isinstance(event, NegotiationOfferMade):
            assert not over
            assert not taken_back
            assert (event.offer.by, event.offer.round) == (OTHER[before.offer.by], before.offer.round + 1)
        if isinstance(event, NegotiationRejected) and event.reason == "expired":
            assert over
            assert event.by == "system"

    @rule(minutes=st.integers(0, 90))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def the_quote_is_withdrawn(self) -> None:
        self.about = replace(self.about, quote=replace(QUOTE, withdrawn=True))

    @rule()
    def the_intent_is_cancelled(self) -> None:
        self.about = replace(self.about, intent=replace(INTENT, cancelled=True))

    @rule(by=st.sampled_from(["buyer", "node"]), amount=st.integers(1, 200), hours=st.integers(-1, 3))
    def start(self, by: Party, amount: int, hours: int) -> None:
        assert self.about.intent is not None
        assert self.about.quote is not None
        self.take(start(by, self.about.intent, self.about.quote, terms(amount, hours, self.now)))

    @rule(by=st.sampled_from(["buyer", "node"]), amount=st.integers(1, 200), hours=st.integers(-1, 3))
    def offer(self, by: Party, amount: int, hours: int) -> None:
        self.take(MakeOffer(by=by, about=self.about, terms=terms(amount, hours, self.now)))

    @rule(by=st.sampled_from(["buyer", "node"]))
    def accept(self, by: Party) -> None:
        self.take(Accept(by=by, about=self.about))

    @rule(by=st.sampled_from(["buyer", "node", "system"]))
    def reject(self, by: Actor) -> None:
        self.take(Reject(by=by))

    @rule()
    def expire(self) -> None:
        self.take(Expire())

    @invariant()
    def it_ends_once(self) -> None:
        ends = [event for event in self.events if isinstance(event, NegotiationAccepted | NegotiationRejected)]
        assert len(ends) <= 1
        assert ends == self.events[len(self.events) - len(ends) :]

    @precondition(lambda self: self.state is not None and self.state.status is Status.ACCEPTED)
    @invariant()
    def the_price_agreed_is_the_last_offered(self) -> None:
        assert self.state is not None
        accepted = self.events[-1]
        assert isinstance(accepted, NegotiationAccepted)
        assert accepted.price == self.state.offer.price
        assert accepted.price.currency == QUOTE.price.currency

    @invariant()
    def the_fold_of_the_events_is_the_state(self) -> None:
        found: Negotiation | None = None
        for event in self.events:
            found = evolve(found, event)
        assert found == self.state


TestNegotiationLives = NegotiationLives.TestCase
