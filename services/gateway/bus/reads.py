"""Reads: what a need of the core asks of a stream, read from one shelf by batched direct get (DESIGN decision 4).

A read says what the shelf has, or `Behind` where it may come yet. In a region the shelf is a mirror, which may keep
less than its stream and may lag: what it cannot settle is `Elsewhere`, to be read from the hub. A mirror's own bounds
never become a gap.
"""

from datetime import UTC, datetime

from contracts.errors import ErrorCode, Problem
from services.chassis import jetstream
from services.chassis.direct import Batch, DirectGetFailed
from services.gateway.bus.decode import Decoder
from services.gateway.bus.pages import PageCache
from services.gateway.bus.place import Behind, Elsewhere, Place, Shelf
from services.gateway.bus.subjects import Subjects, is_exact, selects_few
from services.gateway.core.log import PAGE_EVENTS, Entry, Life, Page
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
)

# A shared page is read whole; a filtered one is read for one client and must not outgrow its step.
_SHARED_PAGE_BYTES = 1024 * 1024
_FILTERED_PAGE_BYTES = 64 * 1024
_FILTERED_PAGE_EVENTS = 256
_FIRST_WINDOW = 1000
_NO_MESSAGE = 10037
# nats-server counts nanoseconds in 64 bits: a later time (from 2262 on) would wrap to before its first message.
_LATEST_NS = 2**63 - 1


class Reads:
    """Reads of one stream from one shelf."""

    def __init__(self, shelf: Shelf, pages: PageCache, decoder: Decoder, *, scan_limit: int, settles: bool) -> None:
        """`settles`: whether what is not here is nowhere; not so for a region's mirror."""
        self._stream = shelf.stream
        self._mirror = shelf.mirror
        self._subjects = Subjects(shelf.mirror)
        self._pages = pages
        self._decoder = decoder
        self._scan_limit = scan_limit
        self._settles = settles

    def is_scan(self, life: Life, need: Need) -> bool:
        """Whether it costs the server time in proportion to what it passes over."""
        if not isinstance(need, (NeedLast, NeedPage)) or need.filters is None or all(map(is_exact, need.filters)):
            return False
        known = self._subjects.known(life, need.filters, need.before if isinstance(need, NeedLast) else need.upto)
        return known is None or known.subjects is None

    async def read(self, life: Life, need: Need) -> Answer:
        """The answer.

        Raises:
            Behind: it may be here later.
            Elsewhere: the hub has to be asked.
        """
        try:
            match need:
                case NeedBounds():
                    return await self._bounds()
                case NeedTime(time_ns, upto):
                    return await self._place_at(life, time_ns, upto)
                case NeedLast():
                    return await self._place_last(life, need)
                case NeedNewest(filters, upto):
                    return await self._newest(life, filters, upto)
                case NeedPage(after, upto, filters):
                    return await self._page(life, after, upto, filters)
        except (Behind, DirectGetFailed, jetstream.StreamMissing) as error:
            if self._settles:
                raise
            raise Elsewhere from error

    async def _bounds(self) -> Bounds:
        state = await self._stream.state()
        return Bounds(state.epoch, state.first, state.last, settles=self._settles)

    # Pages.

    async def _page(self, life: Life, after: int, upto: int, filters: tuple[str, ...] | None) -> Page:
        if filters is None:
            page = await self._shared_page(life, after, upto)
        else:
            page = await self._filtered_page(life, after, upto, filters)
        if page.low > after and not self._settles:
            raise Elsewhere
        return page

    async def _shared_page(self, life: Life, after: int, upto: int) -> Page:
        """Every event after a place shared by all that wait near `after`, so that a storm costs one read."""
        while True:
            held = self._pages.find(life, after)
            if held is not None:
                return held
            low = self._pages.start(life, after)
            query = {"seq": low + 1, "batch": PAGE_EVENTS, "max_bytes": _SHARED_PAGE_BYTES, "next_by_subj": ">"}
            batch = await self._stream.get(query)
            # The bounds are read after the events: what was trimmed before is named, what is trimmed later is here.
            state = await self._stream.same(life)
            high = min(upto, batch.messages[-1].sequence if batch.more and batch.messages else state.last)
            if high <= low:
                raise Behind("nothing follows yet")
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
            found = await self._stream.ask("STREAM.MSG.GET", query)
        except jetstream.JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return
            raise
        if found["message"]["seq"] <= high:
            raise Behind("the replica that answered lags behind the leader")

    async def _filtered_page(self, life: Life, after: int, upto: int, filters: tuple[str, ...]) -> Page:
        """The next events that the filters select, for one subscription."""
        place, filters = await self._cheapest(life, filters, upto)
        state = await place.same(life)
        high = min(upto, state.last)
        if high <= after:
            raise Behind(f"{place.name} has not got there yet")
        entries: dict[int, Entry] = {}
        for one in filters:
            query = {
                "seq": after + 1,
                "batch": _FILTERED_PAGE_EVENTS,
                "max_bytes": _FILTERED_PAGE_BYTES,
                "next_by_subj": one,
            }
            batch = await place.get(query)
            if batch.more and batch.messages:
                high = min(high, batch.messages[-1].sequence)
            entries.update((entry.sequence, entry) for entry in self._entries(life, batch))
        after_bounds = await self._stream.same(life)
        chosen = [entries[sequence] for sequence in sorted(entries) if sequence <= high]
        first = chosen[0].sequence if chosen else high + 1
        return Page(max(after, min(after_bounds.first - 1, first - 1)), high, chosen)

    def _entries(self, life: Life, batch: Batch) -> list[Entry]:
        # When a stored event was stored matters to the live log alone, so old entries bear no time.
        made = (self._decoder.entry(life, found.sequence, 0, found.subject, found.payload) for found in batch.messages)
        return [entry for entry in made if entry is not None]

    async def _cheapest(self, life: Life, filters: tuple[str, ...], upto: int) -> tuple[Place, tuple[str, ...]]:
        """Where to read what the filters select up to `upto`, and by which: exact subjects where these are few."""
        if all(map(is_exact, filters)):
            return self._stream, filters
        if selects_few(filters):
            subjects = (await self._subjects.find(life, filters, upto)).subjects
            if subjects is not None:
                return self._stream, subjects
        return self._mirror, filters

    # Places.

    async def _place_at(self, life: Life, time_ns: int, upto: int) -> Placed:
        time_ns = min(max(time_ns, 0), _LATEST_NS)
        moment = (
            datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time_ns % 10**9:09d}Z"
        )
        query = {"start_time": moment, "batch": 1, "next_by_subj": ">"}
        # The end is read before the events: what is stored between the two is then after it.
        end = await self._has(life, upto)
        batch = await self._stream.get(query)
        if batch.messages:
            position = batch.messages[0].sequence - 1
            first = (await self._stream.same(life)).first
            is_cut_off = position < first and first > 1
        else:
            # Nothing is stored since that time; of what holds nothing, that may be because it was trimmed.
            position, is_empty = end.last, end.first > 1 and not end.messages
            is_cut_off = is_empty and (not self._settles or end.last_ms >= time_ns // 10**6)
        if not is_cut_off:
            return Placed(position)
        if not self._settles:
            raise Elsewhere
        # Before the first stored event: what was stored since that time may have been trimmed.
        return Placed(position, Gap("expired", str(life.cursor(0)), life.cursor(position)))

    async def _has(self, life: Life, upto: int, place: Place | None = None) -> jetstream.StreamState:
        """The bounds of what is read, which has everything up to there: a mirror that is filled again may not yet."""
        place = place or self._stream
        state = await place.same(life)
        if state.last < upto:
            raise Behind(f"{place.name} has not got there yet")
        return state

    async def _place_last(self, life: Life, need: NeedLast) -> Answer:
        """Go back in growing windows until enough match, the stream begins, or too much was scanned."""
        state = await self._stream.same(life)
        place, filters = await self._cheapest(life, need.filters, min(need.before, state.last))
        await self._has(life, need.before, place)
        bottom = state.first - 1
        window = need.before if place == self._stream and all(map(is_exact, filters)) else _FIRST_WINDOW
        while True:
            start = max(min(bottom, need.before), need.before - window)
            matching = await self._matching(place, life, filters, need, start)
            if len(matching) >= need.count:
                return Placed(matching[-need.count] - 1)
            if start <= bottom:
                if bottom and not self._settles:
                    raise Elsewhere
                return Placed(min(bottom, need.before))
            if window >= self._scan_limit:
                return Problem(
                    ErrorCode.REPLAY_UNAVAILABLE,
                    f"fewer than {need.count} such events among the latest {self._scan_limit}; use a cursor or since",
                    retryable=False,
                )
            window = min(window * 10, self._scan_limit)

    async def _matching(
        self, place: Place, life: Life, filters: tuple[str, ...], need: NeedLast, start: int
    ) -> list[int]:
        """The sequences of (start, before] that match, the latest `count` of them."""
        found: set[int] = set()
        for one in filters:
            after = start
            while True:
                query = {"seq": after + 1, "batch": PAGE_EVENTS, "max_bytes": _SHARED_PAGE_BYTES, "next_by_subj": one}
                batch = await place.get(query)
                for entry in self._entries(life, batch):
                    if entry.sequence <= need.before and (need.types is None or entry.type in need.types):
                        found.add(entry.sequence)
                if not batch.more or not batch.messages or batch.messages[-1].sequence >= need.before:
                    break
                after = batch.messages[-1].sequence
                if len(found) > 4 * need.count:
                    found = set(sorted(found)[-need.count :])
        return sorted(found)[-need.count :]

    async def _newest(self, life: Life, filters: tuple[str, ...], upto: int) -> Page:
        """The newest event that any of the filters selects."""
        # Only a mirror can lack what was there before; elsewhere the question would be for nothing.
        state = None if self._settles else await self._has(life, upto)
        batch = await self._stream.get({"multi_last": list(filters)})
        entries = sorted(self._entries(life, batch), key=lambda entry: entry.sequence)[-1:]
        if state is not None and state.first > 1 and not entries:
            raise Elsewhere
        high = entries[0].sequence if entries else 0
        return Page(max(high - 1, 0), high, entries)
