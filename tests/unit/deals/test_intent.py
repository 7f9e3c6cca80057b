"""An intent is created once, cancelled once, and takes nothing new once it is closed."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.errors import ErrorCode, Problem
from contracts.events.intent_v1 import IntentCancelled, IntentCreated
from services.deals.domain.intent import Cancel, Command, Create, Event, Intent, decide, evolve
from tests.harness.decisions import code

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def create(expires_at: datetime | None = None) -> Create:
    return Create(intent_id="i1", buyer_id="ada", title="an hour", quantity=3, expires_at=expires_at)


def made(expires_at: datetime | None = None) -> Intent:
    found = decide(None, create(expires_at), NOW)
    assert not isinstance(found, Problem)
    state = evolve(None, found[0])
    assert state is not None
    return state


def test_an_intent_that_would_be_over_at_once_is_refused() -> None:
    assert code(decide(None, create(NOW), NOW)) is ErrorCode.EXPIRY_IN_PAST


def test_an_expired_intent_takes_nothing_new_from_that_moment_on() -> None:
    state = made(NOW + HOUR)
    assert state.closed(NOW) is None
    assert code(state.closed(NOW + HOUR)) is ErrorCode.INTENT_CLOSED


def test_an_expired_intent_can_still_be_cancelled() -> None:
    assert decide(made(NOW + HOUR), Cancel(), NOW + 2 * HOUR) == (IntentCancelled(intent_id="i1", buyer_id="ada"),)


def test_an_intent_that_is_not_there_cannot_be_cancelled() -> None:
    assert code(decide(None, Cancel(), NOW)) is ErrorCode.NOT_FOUND


def test_events_that_cannot_have_happened_change_nothing() -> None:
    state = made()
    assert evolve(None, IntentCancelled(intent_id="i1", buyer_id="ada")) is None
    assert evolve(state, IntentCreated(intent_id="i1", buyer_id="eve", title="another")) == state


class IntentLives(RuleBasedStateMachine):
    """Any commands at any moments: the events are created, then cancelled, each at most once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state: Intent | None = None
        self.events: list[Event] = []

    def take(self, command: Command) -> None:
        decision = decide(self.state, command, self.now)
        if isinstance(decision, Problem):
            return
        for event in decision:
            self.state = evolve(self.state, event)
            self.events.append(event)

    @rule(hours=st.integers(0, 48))
    def time_passes(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule(lasts=st.none() | st.integers(-2, 48))
    def create(self, lasts: int | None) -> None:
        self.take(create(None if lasts is None else self.now + lasts * HOUR))

    @rule(reason=st.none() | st.just("found another"))
    def cancel(self, reason: str | None) -> None:
        self.take(Cancel(reason=reason))

    @invariant()
    def the_events_are_a_legal_life(self) -> None:
        assert [type(event) for event in self.events] == [IntentCreated, IntentCancelled][: len(self.events)]

    @precondition(lambda self: self.state is not None)
    @invariant()
    def the_fold_of_the_events_is_the_state(self) -> None:
        found: Intent | None = None
        for event in self.events:
            found = evolve(found, event)
        assert found == self.state
        assert found is not None
        assert found.cancelled == (len(self.events) == 2)


TestIntentLives = IntentLives.TestCase
