"""The log: a gateway's in-memory tail of one stream, between a low and a high watermark.

Every stored event above the low watermark and up to the high one is here. The log is made of
pages; what replay reads from JetStream below the low watermark is made of the same pages, so
live, catch-up and replay differ only in where a page comes from (DESIGN, the idea).
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from struct import Struct as Layout

from msgspec import Struct

from contracts.cursor import Cursor
from contracts.wire import event_prefix
from services.gateway.core.frames import event_block, text_header

# A page closes when it holds this many events or bytes: small enough to drop one at a time.
PAGE_EVENTS = 512
PAGE_BYTES = 256 * 1024
# What an entry costs beside its payload: the object, its keys, its place in the page.
_ENTRY_BYTES = 400

# A text frame's header where its length takes 16 bits, as of most events (RFC 6455 §5.2).
_HEADER = Layout(">HH").pack
_TEXT = 0x817E
_SHORT, _LONG = 126, 65536

_sequence = attrgetter("sequence")


class Life:
    """One life of a stream, as cursors name it."""

    __slots__ = ("epoch", "prefix", "stream")

    def __init__(self, stream: str, epoch: str) -> None:
        self.stream = stream
        self.epoch = epoch
        # A cursor's bytes without its sequence.
        self.prefix = f"{stream}.{epoch}.".encode()

    def cursor(self, sequence: int) -> Cursor:
        """The cursor at `sequence` of this life."""
        return Cursor(self.stream, self.epoch, sequence)


class Meter:
    """The bytes of one page, frames included; shared with its entries, so that a frame made late is counted."""

    __slots__ = ("_total", "bytes")

    def __init__(self, total: "Meter | None" = None) -> None:
        """`total`: the meter of the log that the page is part of."""
        self.bytes = 0
        self._total = total

    def add(self, size: int) -> None:
        """Count `size` more bytes, here and in the total; less where it is negative."""
        self.bytes += size
        if self._total is not None:
            self._total.bytes += size

    def join(self, total: "Meter") -> None:
        """From here on the page is part of what `total` counts."""
        self._total = total
        total.add(self.bytes)

    def leave(self) -> None:
        """The page is dropped: the total no longer counts it, whatever is still made of its entries."""
        if self._total is not None:
            self._total.bytes -= self.bytes
            self._total = None


class Entry(Struct, eq=False, gc=False):
    """One event in memory, with the frames that were made of it so far.

    A msgspec struct, for its constructor: one is made for each event. It is in no cycle.
    """

    life: Life
    sequence: int
    # When the stream stored it, Unix nanoseconds.
    time_ns: int
    # The routing keys of its subject: who gets it.
    keys: tuple[str, ...]
    type: str | None
    final: bool
    # The CloudEvent, one line of JSON.
    payload: bytes
    # Set when the entry is put into a page.
    meter: Meter | None = None
    # Ready frames, made on first need: the WebSocket's of the first channel that asked, of the others, the SSE block.
    _channel: str | None = None
    _frame: bytes = b""
    _frames: dict[str, bytes] | None = None
    _block: bytes | None = None

    def frame(self, channel: str) -> bytes:
        """The WebSocket frame of this event on `channel`; the same for every connection."""
        if self._channel is None:
            self._channel = channel
            self._frame = self._make(channel)
            return self._frame
        if self._channel == channel:
            return self._frame
        frames = self._frames
        if frames is None:
            frames = self._frames = {}
        frame = frames.get(channel)
        if frame is None:
            frame = frames[channel] = self._make(channel)
        return frame

    def _make(self, channel: str) -> bytes:
        frame = frames_of(channel, (self,))
        self._count(frame)
        return frame

    def block(self) -> bytes:
        """The SSE block of this event; the same for every connection and channel."""
        block = self._block
        if block is None:
            block = self._block = event_block(b"%b%d" % (self.life.prefix, self.sequence), self.type, self.payload)
            self._count(block)
        return block

    def _count(self, made: bytes) -> None:
        if self.meter is not None:
            self.meter.add(len(made))


def frames_of(channel: str, entries: Sequence[Entry]) -> bytes:
    """The WebSocket frames of events on `channel`, all of the same life."""
    prefix = event_prefix(channel) + entries[0].life.prefix
    pieces: list[bytes] = []
    add = pieces.append
    for entry in entries:
        message = b'%b%d","event":%b}' % (prefix, entry.sequence, entry.payload)
        size = len(message)
        add(_HEADER(_TEXT, size) if _SHORT <= size < _LONG else text_header(size))
        add(message)
    return b"".join(pieces)


class Page:
    """All events of (low, high] that concern its readers, in sequence order."""

    __slots__ = ("_by_key", "_indexed", "entries", "high", "low", "meter")

    def __init__(
        self, low: int, high: int | None = None, entries: Iterable[Entry] = (), total: Meter | None = None
    ) -> None:
        self.low = low
        self.high = low if high is None else high
        self.entries: list[Entry] = []
        self.meter = Meter(total)
        # Key -> its entries, for the first `_indexed` entries; made when somebody first reads by key.
        self._by_key: dict[str, list[Entry]] = {}
        self._indexed = 0
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Add the next event; the caller moves `high`."""
        self.entries.append(entry)
        entry.meter = self.meter
        self.meter.add(len(entry.payload) + _ENTRY_BYTES)

    def select(self, key: str, after: int) -> Sequence[Entry]:
        """The entries that bear `key` and follow `after`."""
        if self._indexed < len(self.entries):
            for entry in self.entries[self._indexed :]:
                for name in entry.keys:
                    self._by_key.setdefault(name, []).append(entry)
            self._indexed = len(self.entries)
        found = self._by_key.get(key, [])
        if not found or found[0].sequence > after:
            return found
        return found[bisect_right(found, after, key=_sequence) :]


class Log:
    """The tail of one stream in one of its lives; bounded in bytes."""

    def __init__(self, life: Life, start: int, max_bytes: int) -> None:
        """`start`: the sequence after which the log begins."""
        self.life = life
        self._max_bytes = max_bytes
        self._meter = Meter()
        self._pages = [Page(start, total=self._meter)]

    @property
    def low(self) -> int:
        """The low watermark: what is at or below it must be read from the stream."""
        return self._pages[0].low

    @property
    def high(self) -> int:
        """The high watermark: all that the feed has brought."""
        return self._pages[-1].high

    @property
    def bytes(self) -> int:
        """What the log holds, frames included."""
        return self._meter.bytes

    def extend(self, batch: Iterable[Entry], high: int) -> None:
        """Append events in order and move the high watermark to `high`, which also covers what was no event."""
        page = self._pages[-1]
        entries, meter, added = page.entries, page.meter, 0
        for entry in batch:
            if len(entries) >= PAGE_EVENTS or meter.bytes + added >= PAGE_BYTES:
                meter.add(added)
                page.high = entries[-1].sequence
                page = self._turn(page)
                entries, meter, added = page.entries, page.meter, 0
            entries.append(entry)
            entry.meter = meter
            added += len(entry.payload) + _ENTRY_BYTES
        meter.add(added)
        page.high = high

    def _turn(self, full: Page) -> Page:
        page = Page(full.high, total=self._meter)
        self._pages.append(page)
        while self._meter.bytes > self._max_bytes and len(self._pages) > 2:
            self._pages.pop(0).meter.leave()
        return page

    def page(self, after: int) -> Page | None:
        """The page to read on from `after`; None where that is below the low watermark or nothing follows yet."""
        if after < self.low or after >= self.high:
            return None
        return self._pages[bisect_right(self._pages, after, key=attrgetter("low")) - 1]

    def position_at(self, time_ns: int) -> int | None:
        """The sequence after which all events were stored at `time_ns` or later; None where the log cannot tell."""
        for page in reversed(self._pages):
            if page.entries and page.entries[0].time_ns < time_ns:
                place = bisect_right(page.entries, time_ns - 1, key=attrgetter("time_ns"))
                return page.entries[place - 1].sequence
        return None

    def last(self, key: str, types: frozenset[str] | None, count: int) -> tuple[int, int]:
        """How many of the last `count` matching events are here, and the sequence before the oldest of them."""
        found = 0
        position = self.high
        for page in reversed(self._pages):
            for entry in reversed(page.select(key, 0)):
                if types is None or entry.type in types:
                    found += 1
                    position = entry.sequence - 1
                    if found == count:
                        return found, position
        return found, position

    def newest(self, key: str) -> Entry | None:
        """The newest event that bears `key`, if it is here."""
        for page in reversed(self._pages):
            found = page.select(key, 0)
            if found:
                return found[-1]
        return None
