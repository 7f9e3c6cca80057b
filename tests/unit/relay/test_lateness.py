"""When a region is taken out of service, and when it comes back."""

from hypothesis import given
from hypothesis import strategies as st

from services.relay.lateness import Lateness


def test_it_is_not_fit_before_the_hub_was_reached() -> None:
    found = Lateness(10)
    assert found.is_late
    assert found.reason == "the hub has not been reached yet"


def test_a_first_look_within_the_limit_is_enough() -> None:
    found = Lateness(10)
    found.see(9)
    assert found.reason is None


def test_it_comes_back_after_two_looks_within_a_quarter() -> None:
    found = Lateness(10)
    for behind, is_late in (
        (1, False),
        (10.5, True),
        (9, True),
        (2, True),
        (3, True),
        (2, True),
        (1, False),
        (9, False),
    ):
        found.see(behind)
        assert found.is_late is is_late, behind
    assert found.reason is None


@given(st.lists(st.floats(2.6, 9.9), min_size=2))
def test_between_the_limits_nothing_changes(swings: list[float]) -> None:
    fit, late = Lateness(10), Lateness(10)
    fit.see(0)
    late.see(11)
    for behind in swings:
        fit.see(behind)
        late.see(behind)
        assert (fit.is_late, late.is_late) == (False, True)
