"""A stored stream in memory: what a feed brings of it, and an archive that answers when and how a test likes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contracts.channels import CHANNELS, Channels
from contracts.cursor import epoch_of
from services.gateway.core.log import Entry, Life, Page
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
from services.gateway.core.stream import Stream
from tests.harness.subjects import matches

BORN_MS = 1_800_000_000_000
EPOCH = epoch_of(BORN_MS)
KEYS = Channels(CHANNELS)
SECOND_NS = 10**9


@dataclass(frozen=True)
class Stored:
    """One message of a fake stream; `kind` is None for an event without type, `is_event` False for what is none."""

    sequence: int
    subject: str
    time_ns: int
    kind: str | None = None
    is_event: bool = True
    final: bool = False
    padding: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        return KEYS.keys(
            self.subject.partition(".")[0].replace("market", "MARKET").replace("plan", "PLANS"), self.subject
        )

    def entry(self, life: Life) -> Entry:
        body = b'{"n":%d,"t":%d,"pad":"%b"}' % (self.sequence, self.time_ns, b"x" * self.padding)
        return Entry(life, self.sequence, self.time_ns, self.keys, self.kind, self.final, body)


@dataclass
class Asked:
    """A read that waits for its answer."""

    need: Need
    done: Callable[[Answer], None]
    # What the archive has read already, though it has not said so.
    read: Answer | None = None


class FakeArchive:
    """What is stored, and reads of it that a test answers when and how it likes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = EPOCH
        self.first = 1
        self.last = 0
        self.messages: dict[int, Stored] = {}
        self.asked: list[Asked] = []
        self.pages: list[Page] = []
        # Set with the stream.
        self.stream: Stream

    def publish(self, subject: str, **more: Any) -> Stored:
        """Store one message; the feed has not brought it yet."""
        self.last += 1
        more.setdefault("time_ns", self.last * SECOND_NS)
        stored = self.messages[self.last] = Stored(self.last, subject, **more)
        return stored

    def feed(self, upto: int | None = None) -> None:
        """Bring what is stored to the log, up to `upto`."""
        log = self.stream.log
        high = self.last if upto is None else min(upto, self.last)
        if high > log.high:
            batch = [found.entry(log.life) for found in self.between(log.high, high) if found.is_event]
            self.stream.append(batch, high)

    def between(self, after: int, upto: int) -> list[Stored]:
        """The messages of (after, upto]."""
        return [found for sequence, found in sorted(self.messages.items()) if after < sequence <= upto]

    def trim(self, first: int) -> None:
        """Retention: nothing before `first` is stored any more."""
        self.first = max(self.first, first)
        for sequence in [one for one in self.messages if one < self.first]:
            del self.messages[sequence]

    # Archive.

    def cached(self, after: int) -> Page | None:
        return next((page for page in self.pages if page.low <= after < page.high), None)

    def ask(self, need: Need, done: Callable[[Answer], None], is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.asked.append(Asked(need, done))

    def answer(self, index: int = 0, answer: Answer | None = None, *, events: int = 10_000) -> None:
        """Answer one read, truthfully unless told otherwise; a page holds at most `events`."""
        asked = self.asked.pop(index)
        asked.done(answer or asked.read or self.truth(asked.need, events))

    def read(self, index: int, events: int = 10_000) -> None:
        """Read for one that asked, and answer it later."""
        self.asked[index].read = self.truth(self.asked[index].need, events)

    def recreate(self, epoch: str) -> None:
        """The stream is deleted and made again."""
        self.epoch, self.first, self.last = epoch, 1, 0
        self.messages.clear()
        self.pages.clear()

    def cut_back(self, last: int) -> None:
        """The stream has lost its end."""
        self.last = last
        self.messages = {one: found for one, found in self.messages.items() if one <= last}
        self.pages.clear()

    def truth(self, need: Need, events: int = 10_000) -> Answer:
        """What an honest archive says to `need` now."""
        match need:
            case NeedBounds():
                return Bounds(self.epoch, self.first, self.last)
            case NeedTime(time_ns):
                found = [one.sequence for one in self.messages.values() if one.time_ns >= time_ns]
                position = min(found) - 1 if found else self.last
                if found and position < self.first and self.first > 1:
                    life = self.stream.log.life
                    return Placed(position, Gap("expired", str(life.cursor(0)), life.cursor(position)))
                return Placed(position)
            case NeedLast(_, filters, types, count, before):
                chosen = [
                    one.sequence for one in self._select(filters, 0, before) if types is None or one.kind in types
                ]
                return Placed(chosen[-count] - 1 if len(chosen) >= count else min(self.first - 1, before))
            case NeedNewest(filters):
                newest = self._select(filters, 0, self.last)[-1:]
                high = newest[0].sequence if newest else 0
                return Page(max(high - 1, 0), high, [one.entry(self.stream.log.life) for one in newest])
            case NeedPage(after, upto, filters):
                return self._page(after, upto, filters, events)

    def _select(self, filters: tuple[str, ...] | None, after: int, upto: int) -> list[Stored]:
        found = [one for one in self.between(after, upto) if one.is_event]
        return [one for one in found if filters is None or any(matches(name, one.subject) for name in filters)]

    def _page(self, after: int, upto: int, filters: tuple[str, ...] | None, events: int) -> Page:
        chosen = self._select(filters, after, upto)
        high = upto if len(chosen) <= events else chosen[events - 1].sequence
        low = max(after, min(self.first - 1, high))
        entries = [one.entry(self.stream.log.life) for one in chosen if one.sequence <= high]
        page = Page(low, max(high, low), entries)
        if filters is None:
            self.pages.append(page)
        return page
