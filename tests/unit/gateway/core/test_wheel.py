from hypothesis import given
from hypothesis import strategies as st

from services.gateway.core.wheel import SLOT_SECONDS, Wheel


class Sleeper:
    """Notes when it is woken; `again` is what it answers, once each."""

    def __init__(self, *again: float) -> None:
        self.due: float | None = None
        self.woken: list[float] = []
        self.again = list(again)

    def tick(self, now: float) -> float | None:
        self.woken.append(now)
        return self.again.pop(0) if self.again else None


TIMES = st.floats(0, 60, allow_nan=False)


@given(st.lists(TIMES, min_size=1, max_size=30), st.lists(st.floats(0.01, 9), min_size=1, max_size=30))
def test_everything_wakes_at_or_within_one_slot_after_its_time(dues: list[float], pauses: list[float]) -> None:
    wheel = Wheel(0.0)
    sleepers = [Sleeper() for _ in dues]
    for sleeper, due in zip(sleepers, dues, strict=True):
        wheel.put(sleeper, due)
    now, turns = 0.0, list[float]()
    while now < 61:
        now += min(pauses[len(turns) % len(pauses)], 5.0)
        turns.append(now)
        wheel.advance(now)
    for sleeper, due in zip(sleepers, dues, strict=True):
        [woken] = sleeper.woken
        assert woken > due - 1e-9
        assert woken <= next(turn for turn in turns if turn >= due + SLOT_SECONDS)
    assert len(wheel) == 0


@given(st.lists(TIMES, min_size=1, max_size=10))
def test_only_the_earliest_of_several_times_counts(dues: list[float]) -> None:
    wheel, sleeper = Wheel(0.0), Sleeper()
    for due in dues:
        wheel.put(sleeper, due)
    assert len(wheel) == 1, "whoever moves to another slot leaves the old one"
    wheel.advance(100.0)
    assert sleeper.woken == [100.0]
    assert sleeper.due is None


def test_a_time_that_has_passed_wakes_by_the_next_turn_even_from_within_a_turn() -> None:
    wheel = Wheel(10.0)
    sleeper = Sleeper(3.0, 10.2, 12.0)
    wheel.put(sleeper, 2.0)
    for now in (10.25, 10.5, 10.75, 11.0, 12.25):
        wheel.advance(now)
    assert sleeper.woken == [10.25, 10.25, 10.5, 12.25]


def test_who_is_woken_says_when_to_be_woken_again() -> None:
    wheel, sleeper = Wheel(0.0), Sleeper(5.0, 9.0)
    wheel.put(sleeper, 1.0)
    for now in range(12):
        wheel.advance(float(now))
    assert sleeper.woken == [2.0, 6.0, 10.0]


def test_who_has_left_is_not_woken_and_not_kept() -> None:
    wheel, sleeper = Wheel(0.0), Sleeper()
    wheel.drop(sleeper)
    wheel.put(sleeper, 1.0)
    wheel.drop(sleeper)
    assert len(wheel) == 0
    assert sleeper.due is None
    wheel.put(sleeper, 3.0)
    wheel.advance(5.0)
    assert sleeper.woken == [5.0]


def test_who_leaves_in_the_turn_that_would_wake_it_sleeps_on() -> None:
    wheel, second = Wheel(0.0), Sleeper()

    class Ends(Sleeper):
        def tick(self, now: float) -> float | None:
            wheel.drop(second)
            return None

    wheel.put(Ends(), 1.0)
    wheel.put(second, 1.0)
    wheel.advance(5.0)
    assert second.woken == []
