import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.core.log import Entry, Life, Log
from tests.harness.archive import EPOCH
from tests.harness.core import sequences

LIFE = Life("MARKET", EPOCH)
KEYS = ["k", "l", "m"]


def entry(sequence: int, *, keys: tuple[str, ...] = ("k",), size: int = 10, kind: str | None = None) -> Entry:
    return Entry(LIFE, sequence, sequence // 3 * 10, keys, kind, False, b"x" * size)


@st.composite
def logs(draw: st.DrawFn) -> tuple[Log, list[Entry]]:
    """A log and all the entries that were ever put into it; sequences without an event between them."""
    log = Log(LIFE, start := draw(st.integers(0, 5)), draw(st.sampled_from([1, 3000, 10**9])))
    every, sequence = list[Entry](), start
    for _ in range(draw(st.integers(0, 8))):
        batch = []
        for _ in range(draw(st.integers(0, 6))):
            sequence += draw(st.integers(1, 3))
            keys = tuple(draw(st.lists(st.sampled_from(KEYS), max_size=3, unique=True)))
            batch.append(entry(sequence, keys=keys, size=draw(st.sampled_from([2, 400])), kind=draw(TYPE)))
        sequence += draw(st.integers(0, 2))
        if sequence > log.high:
            log.extend(batch, sequence)
            every += batch
    return log, every


TYPE = st.sampled_from(["A", "B", None])


@pytest.fixture(autouse=True, scope="module")
def _small_pages() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.gateway.core.log.PAGE_EVENTS", 3)
        yield


@settings(max_examples=25)
@given(logs())
def test_the_pages_from_any_position_are_every_event_after_it(made: tuple[Log, list[Entry]]) -> None:
    log, every = made
    for start in range(log.high + 3):
        page = log.page(start)
        if start < log.low or start >= log.high:
            assert page is None
            continue
        position, found = start, list[Entry]()
        while page is not None:
            assert page.low <= position < page.high
            found += [one for one in page.entries if one.sequence > position]
            position, page = page.high, log.page(page.high)
        assert position == log.high
        assert found == [one for one in every if one.sequence > start]


@settings(max_examples=25)
@given(logs())
def test_the_log_drops_its_oldest_pages_and_knows_what_it_holds(made: tuple[Log, list[Entry]]) -> None:
    log, every = made
    held = [one for one in every if one.sequence > log.low]
    assert sum(len(page.entries) for page in log._pages) == len(held)
    for one in every:
        one.frame("order:o1")
        one.block()
    assert log.bytes == sum(page.meter.bytes for page in log._pages)
    assert log.bytes == sum(len(one.payload) + 400 + len(one.frame("order:o1")) + len(one.block()) for one in held)


@settings(max_examples=25)
@given(logs(), st.sampled_from(KEYS))
def test_a_page_selects_what_bears_the_key_and_follows(made: tuple[Log, list[Entry]], key: str) -> None:
    log, _ = made
    for page in log._pages:
        for after in range(page.low, page.high + 1):
            expected = [one for one in page.entries if key in one.keys and one.sequence > after]
            assert list(page.select(key, after)) == expected


@settings(max_examples=25)
@given(logs(), st.integers(0, 400))
def test_a_time_is_a_position_or_unknown(made: tuple[Log, list[Entry]], time_ns: int) -> None:
    log, every = made
    earlier = [one.sequence for one in every if one.sequence > log.low and one.time_ns < time_ns]
    assert log.position_at(time_ns) == (max(earlier) if earlier else None)


@settings(max_examples=25)
@given(logs(), st.sampled_from(KEYS), st.integers(1, 9), st.sampled_from([None, frozenset("A"), frozenset("AB")]))
def test_the_last_events_of_a_key_are_counted_from_the_end(
    made: tuple[Log, list[Entry]], key: str, count: int, types: frozenset[str] | None
) -> None:
    log, every = made
    found = [
        one.sequence
        for one in every
        if one.sequence > log.low and key in one.keys and (types is None or one.type in types)
    ][-count:]
    assert log.last(key, types, count) == (len(found), found[0] - 1 if found else log.high)
    newest = [one for one in every if one.sequence > log.low and key in one.keys]
    assert log.newest(key) is (newest[-1] if newest else None)


def test_a_page_read_by_key_before_it_is_full_shows_later_events_too() -> None:
    log = Log(LIFE, 0, 10**9)
    log.extend([entry(1)], 1)
    page = log.page(0)
    assert page is not None
    first = sequences(page.select("k", 0))
    log.extend([entry(2)], 2)
    assert (first, sequences(page.select("k", 0))) == ([1], [1, 2])
    assert list(page.select("z", 0)) == []


def test_frames_made_late_count_and_those_of_a_dropped_page_do_not() -> None:
    log = Log(LIFE, 0, 1)
    entries = [entry(sequence) for sequence in range(1, 20)]
    log.extend(entries, 19)
    before = log.bytes
    entries[0].frame("order:o1")
    assert log.bytes == before
    entries[-1].frame("order:o1")
    entries[-1].frame("order:o1")
    assert log.bytes == before + len(entries[-1].frame("order:o1"))
    loose = entry(1)
    assert loose.block() is loose.block()


def test_a_frame_is_the_event_spliced_behind_its_cursor() -> None:
    one = Entry(LIFE, 7, 0, (), "A", False, b'{"id":"1"}')
    assert one.frame("order:o1")[2:] == (
        b'{"op":"event","channel":"order:o1","cursor":"MARKET.%b.7","event":{"id":"1"}}' % EPOCH.encode()
    )
    assert one.frame("order:o1") is one.frame("order:o1")
    assert one.frame("buyer:b") != one.frame("order:o1")
    assert one.block() == b'id: MARKET.%b.7\nevent: A\ndata: {"id":"1"}\n\n' % EPOCH.encode()


def test_a_page_is_full_by_its_bytes_too() -> None:
    log = Log(LIFE, 0, 1024**2)
    log.extend([entry(1, size=256 * 1024), entry(2), entry(3)], 4)
    first, second = log.page(0), log.page(1)
    assert first is not None
    assert second is not None
    assert (first.low, first.high, sequences(first.entries)) == (0, 1, [1])
    assert (second.low, second.high, sequences(second.entries)) == (1, 4, [2, 3])
