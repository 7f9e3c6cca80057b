import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.cursor import EPOCH_WIDTH, Cursor, InvalidCursor, epoch_is_older, epoch_of

STREAM_NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,31}", fullmatch=True)
MOMENTS = st.integers(min_value=0, max_value=36**EPOCH_WIDTH - 1)
SEQUENCES = st.integers(min_value=0, max_value=2**64 - 1)


@given(STREAM_NAMES, MOMENTS, SEQUENCES)
def test_a_cursor_survives_its_text(stream: str, created_ms: int, sequence: int) -> None:
    cursor = Cursor(stream, epoch_of(created_ms), sequence)
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(max_size=60))
def test_what_parses_is_written_back_as_it_was(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor:
        return
    assert str(cursor) == text


@given(MOMENTS, MOMENTS)
def test_epochs_compare_as_text_as_their_moments_do_as_numbers(one: int, other: int) -> None:
    assert epoch_is_older(epoch_of(one), epoch_of(other)) is (one < other)
    assert (epoch_of(one) < epoch_of(other)) is (one < other)


def test_an_epoch_written_with_eight_digits_compares_with_one_of_nine() -> None:
    assert epoch_is_older("zzzzzzzz", "100000000")
    assert not epoch_is_older("100000000", "zzzzzzzz")


@given(MOMENTS)
def test_an_epoch_is_its_moment_in_base_36_and_nine_digits(created_ms: int) -> None:
    assert len(epoch_of(created_ms)) == EPOCH_WIDTH
    assert int(epoch_of(created_ms), 36) == created_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MARKET",
        "MARKET.0mi7c3k9",
        "market.0mi7c3k9x.1",
        "MARKET.0mi7c3k.1",
        "MARKET.0MI7C3K9X.1",
        "MARKET.0mi7c3k9x.01",
        "MARKET.0mi7c3k9x.-1",
        "MARKET.0mi7c3k9x.1 ",
        "MARKET.0mi7c3k9x.1\n",
        "MARKET.0mi7c3k9x.1.2",
        "MARKET.0mi7c3k9x.١",
        "MARKET.0mi7c3k9x.18446744073709551616",
        f"{'M' * 33}.0mi7c3k9x.1",
        "MARKET.0mi7c3k9x.*",
    ],
)
def test_anything_else_is_not_a_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor, match="not a cursor"):
        Cursor.parse(text)


def test_a_refusal_quotes_a_bounded_part_of_what_was_sent() -> None:
    with pytest.raises(InvalidCursor) as refused:
        Cursor.parse("x" * 100_000)
    assert len(str(refused.value)) < 120
