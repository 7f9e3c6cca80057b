"""History: reads of one stream below the log, by batched direct get (DESIGN decision 4).

Equal needs share one read, however many clients wait. What is in flight is bounded, what waits is
bounded, and each read has a deadline, within which it is tried again. Wild-card reads go to the
replay mirror, one at a time, because they would stall the writes of the stream itself.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import nats.errors
from structlog.stdlib import BoundLogger

from contracts.errors import ErrorCode, Problem
from services.chassis import jetstream
from services.chassis.direct import Batch, DirectGetFailed
from services.chassis.tasks import is_wanted
from services.gateway.bus.decode import Decoder
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.log import PAGE_EVENTS, Entry, Life, Meter, Page
from services.gateway.core.replay import (
    Answer,
    Bounds,
    Gap,
    Need,
    NeedBounds,
    NeedLast,
    NeedNewest,
    NeedPage,
    NeedTime,
    Placed,
    stale,
)

_READ_SECONDS = 5.0
_PAUSE_SECONDS = 0.05
_WAITING_READS = 10_000
_WAITING_SCANS = 256
# A shared page is read whole; a filtered one is read for one client and must not outgrow its step.
_SHARED_PAGE_BYTES = 1024 * 1024
_FILTERED_PAGE_BYTES = 64 * 1024
_FILTERED_PAGE_EVENTS = 256
# What shared pages may hold in memory, frames included.
_CACHE_BYTES = 32 * 1024 * 1024
_FIRST_WINDOW = 1000
_NO_MESSAGE = 10037
# nats-server counts nanoseconds in 64 bits: a later time (from 2262 on) would wrap to before its first message.
_LATEST_NS = 2**63 - 1
_FAILURES = (nats.errors.Error, NotConnected, DirectGetFailed, jetstream.JetStreamError, TimeoutError, OSError)

# Needs whose answer lies below the log and stays the same.
_IMMUTABLE = (NeedPage, NeedLast)

Done = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody who waits for a read."""

    done: Done
    is_wanted: Callable[[], bool]
    # Monotonic seconds at which the answer comes too late.
    deadline: float


class _Behind(Exception):
    """What was asked may exist, but the place that was read does not have it yet."""


class History:
    """The archive of one stream; implements `core.replay.Archive`."""

    def __init__(
        self,
        site: Site,
        stream: str,
        mirror: str,
        decoder: Decoder,
        life: Callable[[], Life],
        log: BoundLogger,
        *,
        reads: int,
        scan_limit: int,
    ) -> None:
        """`reads`: in flight at most; `scan_limit`: how many events a filtered read may pass over."""
        self._site = site
        self._stream = stream
        self._mirror = mirror
        self._decoder = decoder
        self._life = life
        self._log = log.bind(stream=stream)
        self._reads = reads
        self._scan_limit = scan_limit
        self._pages = _PageCache()
        # Who waits for what: equal needs wait for one read.
        self._waiting: dict[Need, list[_Asked]] = {}
        self._quick: asyncio.Queue[Need] = asyncio.Queue(_WAITING_READS)
        self._scans: asyncio.Queue[Need] = asyncio.Queue(_WAITING_SCANS)

    async def run(self) -> None:
        """Read for ever; ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._reads):
                group.create_task(self._work(self._quick))
            group.create_task(self._work(self._scans))

    def cached(self, after: int) -> Page | None:
        """A page in memory that reads on from `after`."""
        return self._pages.find(self._life(), after)

    def ask(self, need: Need, done: Done, is_wanted: Callable[[], bool]) -> None:
        """Read, together with whoever needs the same; answered by a Problem where too many wait already."""
        asked = _Asked(done, is_wanted, monotonic() + _READ_SECONDS)
        waiting = self._waiting.get(need)
        if waiting is not None:
            waiting.append(asked)
            return
        try:
            (self._scans if _is_scan(need) else self._quick).put_nowait(need)
        except asyncio.QueueFull:
            asyncio.get_running_loop().call_soon(
                done, Problem(ErrorCode.REPLAY_UNAVAILABLE, "too many replays wait", 2000)
            )
        else:
            self._waiting[need] = [asked]

    async def _work(self, queue: "asyncio.Queue[Need]") -> None:
        while is_wanted():
            need = await queue.get()
            # What changes is shared only by who asked before it was read: a cursor that came later may be newer.
            asked_before = None if isinstance(need, _IMMUTABLE) else self._waiting.pop(need)
            waiting = [asked for asked in asked_before or self._waiting[need] if asked.is_wanted()]
            if not waiting:  # they left while it stood in the queue
                self._waiting.pop(need, None)
                continue
            answer = await self._answer(need, max(asked.deadline for asked in waiting))
            for asked in self._waiting.pop(need) if asked_before is None else asked_before:
                # In a turn of its own, so that a fault in one connection stays with it.
                asyncio.get_running_loop().call_soon(asked.done, answer)

    async def _answer(self, need: Need, deadline: float) -> Answer:
        """Read until it succeeds or the deadline is over, which was set when it was asked."""
        if monotonic() >= deadline:
            return stale("too many replays wait")
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(deadline - monotonic(), 0.001)):
                    return await self._read(need)
            except (*_FAILURES, _Behind) as error:
                if monotonic() + _PAUSE_SECONDS >= deadline:
                    self._log.warning(
                        "history_read_failed", need=type(need).__name__, error=str(error) or type(error).__name__
                    )
                    return stale("the event store does not answer in time")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self, need: Need) -> Answer:
        match need:
            case NeedBounds():
                state = await jetstream.state(self._site.client, self._stream)
                return Bounds(state.epoch, state.first, state.last)
            case NeedTime(time_ns):
                return await self._place_at(time_ns)
            case NeedLast():
                return await self._place_last(need)
            case NeedNewest(filters):
                return await self._newest(filters)
            case NeedPage(after, upto, filters):
                if filters is None:
                    return await self._shared_page(after, upto)
                return await self._filtered_page(after, upto, filters)

    # Pages.

    async def _shared_page(self, after: int, upto: int) -> Page:
        """Every event after a place shared by all that wait near `after`, so that a storm costs one read."""
        life = self._life()
        while True:
            held = self._pages.find(life, after)
            if held is not None:
                return held
            low = self._pages.start(life, after)
            query = {"seq": low + 1, "batch": PAGE_EVENTS, "max_bytes": _SHARED_PAGE_BYTES, "next_by_subj": ">"}
            batch = await self._site.direct_get(self._stream, query, _READ_SECONDS)
            # The bounds are read after the events: what was trimmed before is named, what is trimmed later is here.
            state = await self._same_life(self._stream, life)
            high = min(upto, batch.messages[-1].sequence if batch.more and batch.messages else state.last)
            if high <= low:
                raise _Behind("nothing follows yet")
            if not batch.more:
                await self._confirm_end(batch.messages[-1].sequence if batch.messages else low, high)
            page = Page(low, high, [entry for entry in self._entries(life, batch) if entry.sequence <= high])
            page.low = max(low, min(state.first - 1, page.entries[0].sequence - 1 if page.entries else high))
            self._pages.keep(life, page)
            if page.low > after:
                return page

    async def _confirm_end(self, last: int, high: int) -> None:
        """A direct get may be answered by a replica that lags: ask the leader whether anything lies in (last, high]."""
        if last >= high:
            return
        query = {"seq": last + 1, "next_by_subj": ">"}
        try:
            found = await jetstream.request(self._site.client, f"STREAM.MSG.GET.{self._stream}", query)
        except jetstream.JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return
            raise
        if found["message"]["seq"] <= high:
            raise _Behind("the replica that answered lags behind the leader")

    async def _filtered_page(self, after: int, upto: int, filters: tuple[str, ...]) -> Page:
        """The next events that the filters select, for one subscription."""
        life = self._life()
        place = self._stream if all(_is_exact(one) for one in filters) else self._mirror
        state = await self._same_life(place, life)
        high = min(upto, state.last)
        if high <= after:
            raise _Behind(f"{place} has not got there yet")
        entries: dict[int, Entry] = {}
        for one in filters:
            query = {
                "seq": after + 1,
                "batch": _FILTERED_PAGE_EVENTS,
                "max_bytes": _FILTERED_PAGE_BYTES,
                "next_by_subj": one,
            }
            batch = await self._site.direct_get(place, query, _READ_SECONDS)
            if batch.more and batch.messages:
                high = min(high, batch.messages[-1].sequence)
            entries.update((entry.sequence, entry) for entry in self._entries(life, batch))
        after_bounds = await self._same_life(self._stream, life)
        chosen = [entries[sequence] for sequence in sorted(entries) if sequence <= high]
        first = chosen[0].sequence if chosen else high + 1
        return Page(max(after, min(after_bounds.first - 1, first - 1)), high, chosen)

    def _entries(self, life: Life, batch: Batch) -> list[Entry]:
        # When a stored event was stored matters to the live log alone, so old entries bear no time.
        made = (self._decoder.entry(life, found.sequence, 0, found.subject, found.payload) for found in batch.messages)
        return [entry for entry in made if entry is not None]

    async def _same_life(self, place: str, life: Life) -> jetstream.StreamState:
        state = await jetstream.state(self._site.client, place)
        if state.epoch != life.epoch:
            raise _Behind(f"{place} is of another life")
        return state

    # Places.

    async def _place_at(self, time_ns: int) -> Placed:
        life = self._life()
        time_ns = min(max(time_ns, 0), _LATEST_NS)
        moment = (
            datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time_ns % 10**9:09d}Z"
        )
        query = {"start_time": moment, "batch": 1, "next_by_subj": ">"}
        # The end is read before the events: what is stored between the two is then after it.
        end = (await self._same_life(self._stream, life)).last
        batch = await self._site.direct_get(self._stream, query, _READ_SECONDS)
        if not batch.messages:
            return Placed(end)
        position = batch.messages[0].sequence - 1
        first = (await self._same_life(self._stream, life)).first
        if position < first and first > 1:
            # Before the first stored event: what was stored since that time may have been trimmed.
            return Placed(position, Gap("expired", str(life.cursor(0)), life.cursor(position)))
        return Placed(position)

    async def _place_last(self, need: NeedLast) -> Answer:
        """Go back in growing windows until enough match, the stream begins, or too much was scanned."""
        life = self._life()
        exact = all(_is_exact(one) for one in need.filters)
        place = self._stream if exact else self._mirror
        state = await self._same_life(self._stream, life)
        bottom = state.first - 1
        window = need.before if exact else _FIRST_WINDOW
        while True:
            start = max(min(bottom, need.before), need.before - window)
            matching = await self._matching(place, life, need, start)
            if len(matching) >= need.count:
                return Placed(matching[-need.count] - 1)
            if start <= bottom:
                return Placed(min(bottom, need.before))
            if window >= self._scan_limit:
                return Problem(
                    ErrorCode.REPLAY_UNAVAILABLE,
                    f"fewer than {need.count} such events among the latest {self._scan_limit}; use a cursor or since",
                    retryable=False,
                )
            window = min(window * 10, self._scan_limit)

    async def _matching(self, place: str, life: Life, need: NeedLast, start: int) -> list[int]:
        """The sequences of (start, before] that match, the latest `count` of them."""
        if place != self._stream and (await self._same_life(place, life)).last < need.before:
            raise _Behind(f"{place} has not got there yet")
        found: set[int] = set()
        for one in need.filters:
            after = start
            while True:
                query = {"seq": after + 1, "batch": PAGE_EVENTS, "max_bytes": _SHARED_PAGE_BYTES, "next_by_subj": one}
                batch = await self._site.direct_get(place, query, _READ_SECONDS)
                for entry in self._entries(life, batch):
                    if entry.sequence <= need.before and (need.types is None or entry.type in need.types):
                        found.add(entry.sequence)
                if not batch.more or not batch.messages or batch.messages[-1].sequence >= need.before:
                    break
                after = batch.messages[-1].sequence
                if len(found) > 4 * need.count:
                    found = set(sorted(found)[-need.count :])
        return sorted(found)[-need.count :]

    async def _newest(self, filters: tuple[str, ...]) -> Page:
        """The newest event that any of the filters selects."""
        life = self._life()
        batch = await self._site.direct_get(self._stream, {"multi_last": list(filters)}, _READ_SECONDS)
        entries = sorted(self._entries(life, batch), key=lambda entry: entry.sequence)[-1:]
        high = entries[0].sequence if entries else 0
        return Page(max(high - 1, 0), high, entries)


def _is_exact(one: str) -> bool:
    return "*" not in one and not one.endswith(">")


def _is_scan(need: Need) -> bool:
    filters = need.filters if isinstance(need, (NeedLast, NeedPage)) else None
    return filters is not None and not all(_is_exact(one) for one in filters)


class _PageCache:
    """Shared pages in memory, the least lately used forgotten first; what lies below the log never changes."""

    def __init__(self) -> None:
        # Start of a block of `PAGE_EVENTS` sequences -> the pages that begin in it, in order.
        self._blocks: OrderedDict[int, list[Page]] = OrderedDict()
        self._life: Life | None = None
        # Of all pages, with the frames that are made of them while they are here.
        self._meter = Meter()

    def find(self, life: Life, after: int) -> Page | None:
        """The page that holds `after` + 1."""
        for page in self._of(life, after):
            if page.low <= after < page.high:
                return page
        return None

    def start(self, life: Life, after: int) -> int:
        """Where to begin reading so that the page serves others near `after` too."""
        return max((page.high for page in self._of(life, after) if page.high <= after), default=_block(after))

    def keep(self, life: Life, page: Page) -> None:
        """Remember a page; a shorter one that begins at the same place is replaced."""
        pages = self._of(life, page.low)
        for old in [old for old in pages if old.low == page.low]:
            pages.remove(old)
            old.meter.leave()
        pages.append(page)
        self._blocks[_block(page.low)] = pages
        self._blocks.move_to_end(_block(page.low))
        page.meter.join(self._meter)
        while self._meter.bytes > _CACHE_BYTES and len(self._blocks) > 1:
            _, forgotten = self._blocks.popitem(last=False)
            for old in forgotten:
                old.meter.leave()

    def _of(self, life: Life, after: int) -> list[Page]:
        if life is not self._life:
            self._blocks.clear()
            self._life, self._meter = life, Meter()
        return self._blocks.get(_block(after), [])


def _block(sequence: int) -> int:
    return sequence - sequence % PAGE_EVENTS
