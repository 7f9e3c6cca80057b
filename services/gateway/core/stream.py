"""One stream as a replica has it: its log, its live subscriptions, its archive.

The feed brings batches here; from here they go to the log and, in the same breath, to whoever is
live. Nothing is awaited between the two, so a subscription that joins misses nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from contracts.cursor import Cursor
from services.gateway.core.connection import Connection
from services.gateway.core.fanout import Fanout, Part, Pieces
from services.gateway.core.log import Entry, Life, Log
from services.gateway.core.replay import Answer, Archive, Need
from services.gateway.core.subscription import Reader, Subscription


class Stream:
    """The one owner of a stream's log and fan-out."""

    def __init__(
        self,
        name: str,
        wildcard: str,
        log_bytes: int,
        archive: Archive,
        schedule: Callable[[Connection], None],
        on_fault: Callable[[Connection, Exception], None],
    ) -> None:
        """`on_fault` is told of a connection that raised; it has been abandoned, so that the others go on."""
        self.name = name
        # Filters that select the whole stream.
        self.whole = frozenset({wildcard, ">"})
        self.archive = archive
        self.fanout = Fanout()
        self.pieces = Pieces()
        # Every reader of this stream, in the order they came.
        self.readers: dict[Reader, None] = {}
        # Subscriptions whose cursor is beyond what the feed has brought: stepped again with each batch.
        self.lagging: set[Subscription] = set()
        self._log_bytes = log_bytes
        self._schedule = schedule
        self._on_fault = on_fault
        # Whether the stream's life is known; before that nobody may subscribe.
        self.is_open = False
        # The tail; empty and of no life until the stream is open.
        self.log = Log(Life(name, ""), 0, log_bytes)

    def open(self, epoch: str, start: int) -> None:
        """The feed begins after `start` of this life."""
        self.log = Log(Life(self.name, epoch), start, self._log_bytes)
        self.is_open = True

    def append(self, batch: Sequence[Entry], high: int) -> None:
        """Take what the feed brought, up to `high`, and write it to everyone who is live.

        Step by step: who does not keep up with one is passed over by the next, and reads it from the log.
        """
        start = 0
        while start < len(batch):
            readers, end = self.fanout.due(batch, start)
            self.log.extend(batch[start:end], batch[end - 1].sequence)
            self._write(readers)
            start = end
        self.log.extend((), high)
        if self.lagging:
            waiting, self.lagging = self.lagging, set()
            for subscription in waiting:
                self._schedule(subscription.reader.connection)

    def _write(self, readers: Mapping[Reader, list[Part]]) -> None:
        for reader, parts in readers.items():
            connection = reader.connection
            if not connection.closed:
                try:
                    connection.on_events(parts)
                except Exception as error:  # noqa: BLE001  # as in `_guarded`, without its cost for each event
                    self._failed(connection, error)

    def ask(self, subscription: Subscription, need: Need, answered: Callable[[Answer], None]) -> None:
        """Ask the archive for what `subscription` now waits for."""
        connection = subscription.reader.connection
        subscription.asked = need
        self.archive.ask(
            need,
            lambda answer: self._guarded(connection, partial(answered, answer)),
            lambda: subscription.asked is need,
        )

    def _guarded(self, connection: Connection, call: Callable[[], None]) -> None:
        """Have one connection do something; its fault is its own, and it does not stay behind unnoticed."""
        try:
            call()
        except Exception as error:  # noqa: BLE001  # who is not written to now would miss it, and the others must not
            self._failed(connection, error)

    def _failed(self, connection: Connection, error: Exception) -> None:
        connection.abandon()
        self._on_fault(connection, error)

    def restart(self, reason: str, epoch: str, to: int, *, begins: int | None = None) -> None:
        """The stream is not the one that was read: made again (another epoch), cut back, or trimmed past the log's end.

        The log begins anew after `begins`, else after `to`; every reader that may miss something is told a gap and
        goes on after `to`.
        """
        left_at = self.log.life.cursor(self.log.high)
        self.log = Log(Life(self.name, epoch), to if begins is None else begins, self._log_bytes)
        for reader in list(self.readers):
            told = partial(reader.connection.restart, reader, reason, left_at, Cursor(self.name, epoch, to))
            self._guarded(reader.connection, told)
