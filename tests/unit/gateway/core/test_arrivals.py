"""How fast one address may come, and that the memory of addresses has a bound."""

import pytest

from contracts.errors import ErrorCode
from services.gateway.core.arrivals import Arrivals
from tests.harness.core import FakeClock


def test_an_address_has_a_burst_and_then_a_rate_and_is_told_when_to_come_back() -> None:
    clock = FakeClock()
    arrivals = Arrivals(2, 3, clock.now)
    assert [arrivals.refusal("a") for _ in range(3)] == [None] * 3
    problem = arrivals.refusal("a")
    assert problem is not None
    assert problem.code is ErrorCode.RATE_LIMITED
    assert 0 < (problem.retry_after_ms or 0) <= 501
    assert arrivals.refusal("b") is None
    clock.seconds += 0.5
    assert arrivals.refusal("a") is None
    assert arrivals.refusal("a") is not None


def test_no_rate_and_no_address_are_no_limit() -> None:
    clock = FakeClock()
    none, some = Arrivals(0, 1, clock.now), Arrivals(1, 1, clock.now)
    assert [none.refusal("a") for _ in range(5)] == [None] * 5
    assert [some.refusal(None) for _ in range(5)] == [None] * 5


def test_the_address_seen_longest_ago_is_forgotten_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.core.arrivals._MOST_ADDRESSES", 2)
    arrivals = Arrivals(1, 1, FakeClock().now)
    for address in ("a", "b"):
        assert arrivals.refusal(address) is None
    assert arrivals.refusal("a") is not None
    assert arrivals.refusal("c") is None
    assert len(arrivals) == 2
    assert arrivals.refusal("a") is not None
    assert arrivals.refusal("b") is None
