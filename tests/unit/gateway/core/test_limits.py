from hypothesis import given
from hypothesis import strategies as st

from services.gateway.core.limits import Limits, TokenBucket


@given(st.lists(st.floats(0, 3), max_size=200), st.sampled_from([1.0, 5.0, 20.0]), st.sampled_from([1, 3, 40]))
def test_never_more_than_the_burst_and_the_rate_are_granted(waits: list[float], rate: float, burst: int) -> None:
    bucket, now, granted = TokenBucket(burst, 0.0), 0.0, list[float]()
    for wait in waits:
        now += wait
        if bucket.take(rate, burst, now) == 0:
            granted.append(now)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            assert last - first + 1 <= burst + (granted[last] - granted[first]) * rate + 1e-6


@given(st.integers(0, 100), st.sampled_from([1.0, 5.0, 20.0]))
def test_who_waits_as_long_as_told_is_granted(takes: int, rate: float) -> None:
    bucket = TokenBucket(3, 0.0)
    now = 0.0
    for _ in range(takes):
        wait = bucket.take(rate, 3, now)
        if wait:
            now += wait + 1e-9
            assert bucket.take(rate, 3, now) == 0.0


def test_the_client_is_told_the_limits_it_has_to_keep() -> None:
    assert Limits().as_wire() == {"max_channels": 128, "client_rate": 20.0, "client_burst": 40, "idle_s": 60.0}
