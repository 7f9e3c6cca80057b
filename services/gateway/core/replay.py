"""Replay: where a subscription begins, and what it still needs to reach live.

Judges a cursor against a stream's life and bounds (PROTOCOL §5, Gaps). What cannot be had is named
by a `Gap`, never skipped. Reading is the archive's work, behind a port: it answers by calling back.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from contracts.cursor import Cursor, InvalidCursor, epoch_is_older
from contracts.errors import ErrorCode, Problem
from services.gateway.core.log import Life, Log, Page

# Up to here behind the low watermark, unfiltered pages shared by all waiting replays are cheapest (DESIGN decision 4).
SHARED_PAGES_DISTANCE = 20_000

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# Streams count nanoseconds in 64 bits: until the year 2262.
_LAST_NS = 2**63 - 1

# What a client writes in a cursor's place to begin at the first stored event.
EARLIEST = "earliest"

_REFUSED = {
    "expired": ErrorCode.CURSOR_EXPIRED,
    "recreated": ErrorCode.CURSOR_RECREATED,
    "ahead": ErrorCode.CURSOR_AHEAD,
}


@dataclass(frozen=True, slots=True)
class Now:
    """From the next event on."""


@dataclass(frozen=True, slots=True)
class Earliest:
    """From the first stored event on."""


@dataclass(frozen=True, slots=True)
class After:
    """From the event that follows this cursor on."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Since:
    """From the first event stored at this time on, Unix nanoseconds."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class Last:
    """The last `count` matching events, then live."""

    count: int


Start = Now | Earliest | After | Since | Last


@dataclass(frozen=True, slots=True)
class Gap:
    """Events in (start, to] may be missing; delivery goes on after `to`."""

    reason: str
    start: str
    to: Cursor

    def refusal(self) -> Problem:
        """The error that `on_gap=refuse` asks for instead."""
        return Problem(_REFUSED[self.reason], details={"from": self.start, "to": str(self.to)})


@dataclass(frozen=True, slots=True)
class Placed:
    """A start resolved: delivery begins after `position`."""

    position: int
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """A stream as the archive sees it now: its epoch, first stored and last sequence."""

    epoch: str
    first: int
    last: int
    # False of a region's mirror: what lies outside these may be at the hub all the same.
    settles: bool = True


@dataclass(frozen=True, slots=True)
class NeedBounds:
    """Answered by `Bounds`: those that are at hand, or those of the hub, in a region."""

    of_hub: bool = False


@dataclass(frozen=True, slots=True)
class NeedTime:
    """Answered by `Placed`: before the first event stored at `time_ns` or later."""

    time_ns: int
    # Who answers has everything up to here.
    upto: int = 0


@dataclass(frozen=True, slots=True)
class NeedLast:
    """Answered by `Placed`: before the `count`-th last event that matches, at or below `before`."""

    key: str
    filters: tuple[str, ...]
    types: frozenset[str] | None
    count: int
    before: int


@dataclass(frozen=True, slots=True)
class NeedPage:
    """Answered by a `Page` that holds `after` + 1 if it is stored, up to `upto` at most."""

    after: int
    upto: int
    # None: every event, so that the page serves all that wait; else only what these NATS filters select.
    filters: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class NeedNewest:
    """Answered by a `Page` that holds the newest event of these filters, if there is one."""

    filters: tuple[str, ...]
    # Who answers has everything up to here.
    upto: int = 0


Need = NeedBounds | NeedTime | NeedLast | NeedPage | NeedNewest
Answer = Bounds | Placed | Page | Problem


class Archive(Protocol):
    """What the core asks of the bus: reads of one stream below the log."""

    def cached(self, after: int) -> Page | None:
        """A page in memory that reads on from `after`."""

    def ask(self, need: Need, done: Callable[[Answer], None], is_wanted: Callable[[], bool]) -> None:
        """Read; `done` is called once, after `ask` has returned; with a Problem where it cannot be had in time.

        Once `is_wanted` says no, nothing need be read, and `done` need not be called.
        """


def place_from_log(start: Start, log: Log, key: str, types: frozenset[str] | None) -> Placed | Problem | None:
    """Resolve `start` from memory alone; None where the archive has to be asked."""
    match start:
        case Now():
            return Placed(log.high)
        case After(cursor):
            if cursor.stream != log.life.stream:
                return Problem(
                    ErrorCode.INVALID_CURSOR,
                    f"that cursor is of stream {cursor.stream}, the channel reads {log.life.stream}",
                )
            if cursor.epoch == log.life.epoch and log.low <= cursor.sequence <= log.high:
                return Placed(cursor.sequence)
            return None
        case Earliest():
            return Placed(0) if log.low == 0 else None
        case Since(time_ns):
            position = log.position_at(time_ns)
            return None if position is None else Placed(position)
        case Last(count):
            found, position = log.last(key, types, count)
            return Placed(position) if found == count else Placed(0) if log.low == 0 else None


def need_of(start: Start, log: Log, key: str, filters: tuple[str, ...], types: frozenset[str] | None) -> Need:
    """What the archive has to be asked to resolve `start`."""
    match start:
        case Since(time_ns):
            return NeedTime(time_ns, log.low)
        case Last(count):
            found, _ = log.last(key, types, count)
            return NeedLast(key, filters, types, count - found, log.low)
        case _:
            return NeedBounds()


def judge(start: Start, life: Life, high: int, bounds: Bounds) -> Placed | Problem | NeedBounds:
    """Resolve a cursor or `earliest` against the stream's bounds; `high` is the log's own high watermark.

    `NeedBounds` where a mirror's bounds do not settle it: nothing is called missing but by what the hub has.
    """
    if bounds.epoch != life.epoch:
        return stale("this gateway is still reading an earlier life of the stream")
    bottom = bounds.first - 1
    is_whole = bounds.settles or bottom == 0
    if not isinstance(start, After):
        return Placed(bottom) if is_whole else NeedBounds(of_hub=True)
    cursor = start.cursor
    if cursor.epoch != life.epoch and not epoch_is_older(cursor.epoch, life.epoch):
        return stale("the cursor is of a newer life of the stream than this site has")
    if cursor.epoch != life.epoch:
        gap = Gap("recreated", str(cursor), life.cursor(bottom))
        return Placed(bottom, gap) if is_whole else NeedBounds(of_hub=True)
    end = max(bounds.last, high)
    if bottom <= cursor.sequence <= end:
        return Placed(cursor.sequence)
    if not bounds.settles:
        return NeedBounds(of_hub=True)
    if cursor.sequence < bottom:
        return Placed(bottom, Gap("expired", str(cursor), life.cursor(bottom)))
    return Placed(end, Gap("ahead", str(cursor), life.cursor(end)))


def stale(why: str) -> Problem:
    """A replay that a retry may get."""
    return Problem(ErrorCode.REPLAY_UNAVAILABLE, why, 1000)


def page_needed(position: int, low: int, filters: tuple[str, ...], whole: frozenset[str]) -> NeedPage:
    """How to read on from `position` up to the log's low watermark (DESIGN decision 4, cheapest first).

    `whole`: filters that select the whole stream, for which filtering would only cost.
    """
    if low - position <= SHARED_PAGES_DISTANCE or whole.intersection(filters):
        return NeedPage(position, low, None)
    # Well short of the low watermark: a filtered read cannot tell the end of the stream from a replica that lags.
    return NeedPage(position, low - SHARED_PAGES_DISTANCE // 2, filters)


def time_ns_of(text: str) -> int | None:
    """Unix nanoseconds of an RFC 3339 time; None where it is not one. Beyond what a stream can count: its last."""
    found = _RFC3339.fullmatch(text)
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[4].upper()}") if found else None
    except ValueError:
        return None
    if found is None or moment is None:
        return None
    nanoseconds = int((found[3] or "")[:9].ljust(9, "0"))
    return min((moment - _EPOCH) // _SECOND * 10**9 + nanoseconds, _LAST_NS)


def start_of(cursor: str | None, since: str | None, last: int | None) -> Start | Problem:
    """How a client asks to begin; at most one of the three is given."""
    if cursor == EARLIEST:
        return Earliest()
    if cursor is not None:
        try:
            return After(Cursor.parse(cursor))
        except InvalidCursor:
            return Problem(ErrorCode.INVALID_CURSOR)
    if since is not None:
        moment = time_ns_of(since)
        return Problem(ErrorCode.INVALID_MESSAGE, "since is a time of RFC 3339") if moment is None else Since(moment)
    return Now() if last is None else Last(last)


def misses_nothing(stood: int, reason: str, to: int) -> bool:
    """Whether what a reader at `stood` has yet to read is all there, in a stream cut back or trimmed to `to`."""
    return stood <= to if reason == "ahead" else stood >= to
