"""What is known of revocations: who is barred, what replaces what, and that the memory of them ends."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, Refused
from contracts.principal import Principal
from contracts.revocation import Revocation
from services.chassis.auth import TokenVerifier
from services.chassis.revocations import Revocations
from tests.harness.tokens import SECRET, token


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def known(clock: Clock, *revocations: Revocation) -> Revocations:
    found = Revocations(clock)
    found.is_current = True
    for revocation in revocations:
        found.apply(revocation)
    return found


def holder(sub: str, issued: float | None = 900, jti: str | None = None) -> Principal:
    return Principal(sub, "buyer", 1e12, jti=jti, issued_at=issued)


def test_nobody_is_let_in_before_it_is_known_who_is_barred() -> None:
    problem = Revocations(Clock()).judge(holder("ada"))
    assert problem is not None
    assert (problem.code, problem.may_retry, problem.retry_after_ms) == (ErrorCode.UNAVAILABLE, True, 1000)


_IDS = st.sampled_from(["ada", "bob", "t1", "t2"])
_ONES = st.builds(
    lambda name, at, lasts, by_jti, lifted: Revocation(
        at=at, until=at + lasts, sub=None if by_jti else name, jti=name if by_jti else None, lifted=lifted
    ),
    _IDS,
    st.integers(900, 1100),
    st.integers(1, 200),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(_ONES, max_size=12), _IDS, st.none() | _IDS, st.none() | st.integers(850, 1150), st.integers(0, 300))
def test_the_last_word_about_an_id_stands_until_it_ends(
    said: list[Revocation], sub: str, jti: str | None, issued: int | None, later: int
) -> None:
    clock = Clock()
    found = known(clock, *said)
    clock.seconds += later
    found.sweep()
    last = {(one.sub, one.jti): one for one in said}
    who = holder(sub, issued, jti)
    expected = any(one.bars(who, clock.seconds) for one in last.values())
    assert found.bars(who) is expected
    problem = found.judge(who)
    assert (problem is not None and problem.code is ErrorCode.REVOKED) is expected


def test_those_that_ended_are_let_go_within_a_minute() -> None:
    clock = Clock()
    found = known(clock, *(Revocation(at=1, until=1010 + number, sub=f"b{number}") for number in range(100)))
    found.apply(Revocation(at=1, until=5000, jti="t1"))
    clock.seconds = 1065
    found.sweep()
    assert len(found) == 45
    clock.seconds = 1200
    found.sweep()
    assert len(found) == 1


def test_they_are_listed_by_name_a_page_at_a_time_and_found() -> None:
    clock = Clock()
    ended = Revocation(at=1, until=1001, sub="old")
    found = known(clock, *(Revocation(at=1, until=2000, sub=sub) for sub in ("c", "a", "b")), ended)
    found.apply(Revocation(at=1, until=2000, jti="a:b"))
    clock.seconds = 1002
    assert [one.sub or one.jti for one in found.standing("", 2)] == ["a:b", "a"]
    assert [one.sub for one in found.standing("sub:a", 9)] == ["b", "c"]
    assert found.find(sub="a") == Revocation(at=1, until=2000, sub="a")
    assert found.find(jti="a:b") == Revocation(at=1, until=2000, jti="a:b")
    assert [found.find(), found.find(sub="old"), found.find(sub="a", jti="b"), found.find(jti="a")] == [None] * 4


async def test_a_verifier_that_is_told_of_them_refuses_even_a_token_it_remembers() -> None:
    revocations = Revocations()
    verifier = TokenVerifier(hs256_secret=SECRET, revocations=revocations)
    good = token("ada", "buyer")
    with pytest.raises(Refused) as early:
        await verifier.verify(good)
    revocations.is_current = True
    assert (await verifier.verify(good)).sub == "ada"
    revocations.apply(Revocation(at=4e9, until=5e9, sub="ada"))
    with pytest.raises(Refused) as late:
        await verifier.verify(good)
    assert [one.value.problem.code for one in (early, late)] == [ErrorCode.UNAVAILABLE, ErrorCode.REVOKED]


def test_many_of_them_are_small() -> None:
    tracemalloc.start()
    try:
        found = known(Clock())
        for number in range(10_000):
            found.apply(Revocation(at=1000.5 + number, until=90_000.5 + number, sub=f"buyer_{number:012}"))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held / len(found) < 400
