"""What a revocation bars, what is stored of it, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.principal import Principal
from contracts.revocation import LARGEST_JTI, InvalidRevocation, Revocation, checked, read


def holder(sub: str = "ada", *, issued: float | None = 50, jti: str | None = None) -> Principal:
    return Principal(sub, "buyer", 1000, jti=jti, issued_at=issued)


def test_it_bars_what_was_issued_up_to_its_moment_until_it_ends() -> None:
    found = Revocation(at=100, until=200, sub="ada")
    assert found.bars(holder(issued=100), 150)
    assert found.bars(holder(issued=None), 150)
    assert not found.bars(holder(issued=101), 150)
    assert not found.bars(holder("bob"), 150)
    assert not found.bars(holder(issued=100), 200)
    assert not Revocation(at=100, until=200, sub="ada", lifted=True).bars(holder(), 150)


def test_by_jti_it_bars_that_token_alone() -> None:
    found = Revocation(at=100, until=200, jti="t1")
    assert found.bars(holder(jti="t1"), 150)
    assert not found.bars(holder(jti="t2"), 150)
    assert not found.bars(holder(), 150)


@given(st.text(min_size=1, max_size=LARGEST_JTI))
def test_a_jti_may_be_any_text_and_its_subject_is_one(jti: str) -> None:
    found = Revocation(at=1, until=2, jti=jti)
    tokens = found.subject.split(".")
    assert tokens[:3] == ["control", "revocation", "jti"]
    assert len(tokens) == 4
    assert tokens[3].isalnum()
    assert found.subject != Revocation(at=1, until=2, jti=jti + "x").subject


def test_what_is_stored_is_read_as_it_was() -> None:
    found = Revocation(at=1.5, until=2.5, sub="ada", by="root", lifted=True)
    assert read(found.encoded()) == found
    assert found.subject == "control.revocation.sub.ada"


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{}",
        b'{"at":1,"until":2}',
        b'{"at":1,"until":2,"sub":"a b"}',
        b'{"at":"1","until":2,"sub":"a"}',
        b'{"at":1,"until":2,"sub":"\xff"}',
        b'{"at":1,"until":' + b"9" * 400 + b',"sub":"a"}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_none_is_not_read(stored: bytes) -> None:
    with pytest.raises(InvalidRevocation):
        read(stored)


@pytest.mark.parametrize(
    "found",
    [
        Revocation(at=1, until=2, sub="a", jti="b"),
        Revocation(at=1, until=float("inf"), sub="a"),
        Revocation(at=float("nan"), until=2, sub="a"),
        Revocation(at=1, until=2, jti="x" * (LARGEST_JTI + 1)),
    ],
)
def test_what_makes_no_sense_is_refused(found: Revocation) -> None:
    with pytest.raises(InvalidRevocation):
        checked(found)
