"""A quote is given on an open intent only, withdrawn once, and takes no negotiation once it is closed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts.errors import ErrorCode, Problem
from contracts.events.money import Money
from contracts.events.quote_v1 import QuoteReceived, QuoteWithdrawn
from services.deals.domain.intent import Intent
from services.deals.domain.quote import Command, Event, Give, Quote, Withdraw, decide, evolve
from tests.harness.decisions import code

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRICE = Money(amount="100.00", currency="EUR")
INTENT = Intent(intent_id="i1", buyer_id="ada", title="t", quantity=1, budget=None, expires_at=NOW + 24 * HOUR)


def give(valid_until: datetime | None = None, intent: Intent = INTENT) -> Give:
    return Give(quote_id="q1", node_id="oslo", intent=intent, price=PRICE, valid_until=valid_until)


def given(valid_until: datetime | None = None) -> Quote:
    found = decide(None, give(valid_until), NOW)
    assert not isinstance(found, Problem)
    state = evolve(None, found[0])
    assert state is not None
    return state


def test_a_quote_bears_the_keys_of_its_intent() -> None:
    state = given()
    assert (state.intent_id, state.buyer_id, state.node_id, state.price) == ("i1", "ada", "oslo", PRICE)


def test_no_quote_on_a_cancelled_or_expired_intent() -> None:
    cancelled = replace(INTENT, cancelled=True)
    assert code(decide(None, give(intent=cancelled), NOW)) is ErrorCode.INTENT_CLOSED
    assert code(decide(None, give(), NOW + 24 * HOUR)) is ErrorCode.INTENT_CLOSED


def test_a_quote_that_would_be_over_at_once_is_refused() -> None:
    assert code(decide(None, give(NOW), NOW)) is ErrorCode.EXPIRY_IN_PAST


def test_a_quote_is_closed_when_it_expires_or_is_withdrawn() -> None:
    state = given(NOW + HOUR)
    assert state.closed(NOW) is None
    assert code(state.closed(NOW + HOUR)) is ErrorCode.QUOTE_CLOSED
    assert code(replace(state, withdrawn=True).closed(NOW)) is ErrorCode.QUOTE_CLOSED


def test_what_is_not_there_cannot_be_withdrawn() -> None:
    assert code(decide(None, Withdraw(), NOW)) is ErrorCode.NOT_FOUND


def test_events_that_cannot_have_happened_change_nothing() -> None:
    state = given()
    withdrawn = QuoteWithdrawn(quote_id="q1", intent_id="i1", buyer_id="ada", node_id="oslo")
    assert evolve(None, withdrawn) is None
    dearer = QuoteReceived(
        quote_id="q1", intent_id="i1", buyer_id="ada", node_id="oslo", price=Money(amount="900", currency="EUR")
    )
    assert evolve(state, dearer) == state


class QuoteLives(RuleBasedStateMachine):
    """Any commands at any moments: the events are received, then withdrawn, each at most once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.intent = INTENT
        self.state: Quote | None = None
        self.events: list[Event] = []

    def take(self, command: Command) -> None:
        decision = decide(self.state, command, self.now)
        if isinstance(decision, Problem):
            return
        for event in decision:
            self.state = evolve(self.state, event)
            self.events.append(event)
            if isinstance(event, QuoteReceived):
                assert self.intent.closed(self.now) is None, "quoted on a closed intent"

    @rule(hours=st.integers(0, 12))
    def time_passes(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule()
    def the_intent_is_cancelled(self) -> None:
        self.intent = replace(self.intent, cancelled=True)

    @rule(lasts=st.none() | st.integers(-2, 12))
    def give(self, lasts: int | None) -> None:
        self.take(give(None if lasts is None else self.now + lasts * HOUR, self.intent))

    @rule()
    def withdraw(self) -> None:
        self.take(Withdraw(reason="sold out"))

    @invariant()
    def the_events_are_a_legal_life(self) -> None:
        assert [type(event) for event in self.events] == [QuoteReceived, QuoteWithdrawn][: len(self.events)]

    @invariant()
    def the_fold_of_the_events_is_the_state(self) -> None:
        found: Quote | None = None
        for event in self.events:
            found = evolve(found, event)
        assert found == self.state


TestQuoteLives = QuoteLives.TestCase
