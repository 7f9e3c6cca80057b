"""A history page: a connection that reads up to a limit, and ends (PROTOCOL §7).

The same grants, positions and pages as a live connection, so history cannot show what live would
not. Long poll is the same with patience.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contracts.cursor import Cursor
from contracts.errors import Problem
from contracts.principal import Principal
from services.gateway.core.connection import Connection
from services.gateway.core.fanout import Part
from services.gateway.core.log import Entry
from services.gateway.core.replay import Gap
from services.gateway.core.subscription import Subscription

# A page ends early when it holds this much, so that a thousand of the largest events are not in memory at once.
PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What one request read: everything after its start up to `cursor`."""

    entries: tuple[Entry, ...]
    cursor: Cursor
    # Whether the page reaches the live end.
    live: bool
    gap: Gap | None


class Poll:
    """One history request as it counts among its principal's connections, until its page is sent."""

    __slots__ = ("_dismiss", "connection_id", "principal", "reader")

    def __init__(self, principal: Principal, connection_id: str, dismiss: Callable[[Principal, "Poll"], None]) -> None:
        self.principal = principal
        self.connection_id = connection_id
        self._dismiss = dismiss
        # While it is read.
        self.reader: HistoryReader | None = None

    def refuse(self, problem: Problem) -> None:
        """Answer with this in place of a page; one that is made already is still sent."""
        self.end()
        if self.reader is not None:
            self.reader.give_up(problem)

    def end(self) -> None:
        """It counts no more. Idempotent."""
        self._dismiss(self.principal, self)


class HistoryReader(Connection):
    """Collects entries until the limit, the live end, or the caller's patience."""

    __slots__ = ("_bytes", "_done", "_entries", "_gap", "_limit", "_patient", "_subscription")

    def __init__(
        self,
        schedule: Callable[[Connection], None],
        limit: int,
        patient: bool,
        done: Callable[[HistoryPage | Problem], None],
    ) -> None:
        """`patient`: at the live end with nothing read, wait for the first event. `done` is called once."""
        super().__init__(schedule)
        self._limit = limit
        self._patient = patient
        self._done = done
        self._entries: list[Entry] = []
        self._bytes = 0
        self._gap: Gap | None = None
        self._subscription: Subscription | None = None

    def hurry(self) -> None:
        """Wait for nothing more: answer now where it waits at the live end, else once the page is read."""
        self._patient = False
        if self._subscription is not None and self._subscription.is_live:
            self.finish()

    def finish(self) -> None:
        """Answer with what was read so far. Idempotent."""
        subscription = self._subscription
        if self.closed or subscription is None:
            return
        log = subscription.reader.stream.log
        full = len(self._entries) >= self._limit
        if full:
            del self._entries[self._limit :]
            position = self._entries[-1].sequence
        else:
            position = log.high if subscription.position is None else subscription.position
        page = HistoryPage(
            tuple(self._entries), log.life.cursor(position), not full and subscription.is_live, self._gap
        )
        self.release()
        self._done(page)

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        """Note where it began."""
        self._subscription = subscription
        self._gap = gap

    def on_events(self, parts: Sequence[Part]) -> None:
        """Collect; the first events after the live end are an answer too."""
        for part in parts:
            self._entries.extend(part.entries)
            self._bytes += sum(len(entry.payload) for entry in part.entries)
        full = len(self._entries) >= self._limit or self._bytes >= PAGE_BYTES
        if full or self._subscription is None or self._subscription.is_live:
            self.finish()

    def on_live(self, subscription: Subscription, cursor: Cursor, replayed: int) -> None:
        """Answer, unless there is nothing yet and the caller has patience."""
        if self._entries or not self._patient:
            self.finish()

    def on_gap(self, subscription: Subscription, gap: Gap) -> None:
        """A page names one gap: of several, all from the first one's start to the last one's end."""
        self._gap = gap if self._gap is None else Gap(gap.reason, self._gap.start, gap.to)

    def on_failed(self, subscription: Subscription, problem: Problem) -> None:
        """Answer with the problem."""
        self.give_up(problem)

    def give_up(self, problem: Problem) -> None:
        """Answer with the problem. Idempotent."""
        if not self.closed:
            self.release()
            self._done(problem)
