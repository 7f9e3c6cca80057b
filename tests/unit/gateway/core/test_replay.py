import pytest

from contracts.cursor import Cursor, epoch_of
from contracts.errors import ErrorCode, Problem
from services.gateway.core.log import Entry, Life, Log
from services.gateway.core.replay import (
    After,
    Bounds,
    Earliest,
    Gap,
    Last,
    NeedBounds,
    NeedLast,
    NeedPage,
    NeedTime,
    Now,
    Placed,
    Since,
    Start,
    judge,
    need_of,
    page_needed,
    place_from_log,
)

OLDER, EPOCH, NEWER = epoch_of(1_000), epoch_of(2_000), epoch_of(3_000)
LIFE = Life("MARKET", EPOCH)
KEY = "order:o1"


def log_of(low: int, high: int) -> Log:
    """(low, high], every second one of them of the key, stored a nanosecond apart."""
    log = Log(LIFE, low, 10**9)
    entries = [
        Entry(LIFE, one, one * 10, (KEY,) if one % 2 == 0 else (), "A" if one % 4 == 0 else "B", False, b"{}")
        for one in range(low + 1, high + 1)
    ]
    log.extend(entries, high)
    return log


def after(sequence: int, epoch: str = EPOCH, stream: str = "MARKET") -> After:
    return After(Cursor(stream, epoch, sequence))


@pytest.mark.parametrize(
    ("start", "low", "expected"),
    [
        (Now(), 10, Placed(20)),
        (after(10), 10, Placed(10)),
        (after(15), 10, Placed(15)),
        (after(20), 10, Placed(20)),
        (after(9), 10, None),
        (after(21), 10, None),
        (after(15, OLDER), 10, None),
        (after(15, NEWER), 10, None),
        (Earliest(), 10, None),
        (Earliest(), 0, Placed(0)),
        (Since(151), 10, Placed(15)),
        (Since(150), 10, Placed(14)),
        (Since(110), 10, None),
        (Since(10**6), 10, Placed(20)),
        (Last(1), 10, Placed(19)),
        (Last(5), 10, Placed(11)),
        (Last(6), 10, None),
        (Last(11), 0, Placed(0)),
    ],
)
def test_what_memory_can_tell_is_told_from_memory(start: Start, low: int, expected: Placed | None) -> None:
    assert place_from_log(start, log_of(low, 20), KEY, None) == expected


def test_the_last_of_some_types_are_counted_by_type() -> None:
    assert place_from_log(Last(2), log_of(10, 20), KEY, frozenset("A")) == Placed(15)
    assert place_from_log(Last(4), log_of(10, 20), KEY, frozenset("A")) is None


def test_a_cursor_of_another_stream_is_invalid() -> None:
    found = place_from_log(after(5, stream="PLANS"), log_of(0, 20), KEY, None)
    assert isinstance(found, Problem)
    assert found.code is ErrorCode.INVALID_CURSOR


def test_what_memory_cannot_tell_is_asked_of_the_archive() -> None:
    log = log_of(10, 20)
    assert need_of(after(1), log, KEY, ("f",), None) == NeedBounds()
    assert need_of(Earliest(), log, KEY, ("f",), None) == NeedBounds()
    assert need_of(Since(7), log, KEY, ("f",), None) == NeedTime(7, 10)
    assert need_of(Last(9), log, KEY, ("f",), None) == NeedLast(KEY, ("f",), None, 4, 10)


def gap(reason: str, start: After, to: int) -> Placed:
    return Placed(to, Gap(reason, str(start.cursor), LIFE.cursor(to)))


@pytest.mark.parametrize(
    ("start", "bounds", "expected"),
    [
        (Earliest(), Bounds(EPOCH, 1, 20), Placed(0)),
        (Earliest(), Bounds(EPOCH, 8, 20), Placed(7)),
        (Earliest(), Bounds(EPOCH, 21, 20), Placed(20)),
        (after(7), Bounds(EPOCH, 8, 20), Placed(7)),
        (after(6), Bounds(EPOCH, 8, 20), gap("expired", after(6), 7)),
        (after(0), Bounds(EPOCH, 1, 20), Placed(0)),
        (after(20), Bounds(EPOCH, 8, 20), Placed(20)),
        (after(25), Bounds(EPOCH, 8, 30), Placed(25)),
        (after(18), Bounds(EPOCH, 8, 15), Placed(18)),
        (after(21), Bounds(EPOCH, 8, 15), gap("ahead", after(21), 20)),
        (after(31), Bounds(EPOCH, 8, 30), gap("ahead", after(31), 30)),
        (after(12, OLDER), Bounds(EPOCH, 8, 20), gap("recreated", after(12, OLDER), 7)),
        (after(99, OLDER), Bounds(EPOCH, 1, 0), gap("recreated", after(99, OLDER), 0)),
    ],
)
def test_a_cursor_is_judged_by_the_streams_life_and_bounds(start: Start, bounds: Bounds, expected: Placed) -> None:
    assert judge(start, LIFE, 20, bounds) == expected


@pytest.mark.parametrize(
    ("start", "bounds"),
    [
        (after(5, NEWER), Bounds(EPOCH, 1, 20)),
        (after(5), Bounds(NEWER, 1, 20)),
        (after(5), Bounds(OLDER, 1, 20)),
        (Earliest(), Bounds(NEWER, 1, 20)),
    ],
)
def test_where_site_and_cursor_disagree_on_the_present_life_a_retry_may_help(start: Start, bounds: Bounds) -> None:
    found = judge(start, LIFE, 20, bounds)
    assert isinstance(found, Problem)
    assert (found.code, found.may_retry) == (ErrorCode.REPLAY_UNAVAILABLE, True)


def mirror(first: int, last: int) -> Bounds:
    """The bounds of a region's mirror."""
    return Bounds(EPOCH, first, last, settles=False)


@pytest.mark.parametrize(
    ("start", "bounds", "expected"),
    [
        (Earliest(), mirror(1, 20), Placed(0)),
        (Earliest(), mirror(8, 20), NeedBounds(of_hub=True)),
        (after(7), mirror(8, 20), Placed(7)),
        (after(20), mirror(8, 15), Placed(20)),
        (after(6), mirror(8, 20), NeedBounds(of_hub=True)),
        (after(21), mirror(1, 20), NeedBounds(of_hub=True)),
        (after(3, OLDER), mirror(1, 20), gap("recreated", after(3, OLDER), 0)),
        (after(3, OLDER), mirror(8, 20), NeedBounds(of_hub=True)),
    ],
)
def test_a_mirror_settles_what_it_has_and_leaves_the_rest_to_the_hub(
    start: Start, bounds: Bounds, expected: Placed | NeedBounds
) -> None:
    assert judge(start, LIFE, 20, bounds) == expected


@pytest.mark.parametrize("reason", ["expired", "recreated", "ahead"])
def test_a_gap_refused_names_both_its_ends(reason: str) -> None:
    problem = Gap(reason, "M.e.1", LIFE.cursor(7)).refusal()
    assert problem.code.wire == f"cursor_{reason}"
    assert problem.details == {"from": "M.e.1", "to": f"MARKET.{EPOCH}.7"}
    assert not problem.may_retry


def test_near_the_log_pages_are_shared_and_far_from_it_filtered_short_of_the_log() -> None:
    whole, filters = frozenset({"market.>", ">"}), ("market.*.b.>",)
    assert page_needed(80_000, 100_000, filters, whole) == NeedPage(80_000, 100_000, None)
    assert page_needed(79_999, 100_000, filters, whole) == NeedPage(79_999, 90_000, filters)
    assert page_needed(0, 100_000, ("market.>",), whole) == NeedPage(0, 100_000, None)
