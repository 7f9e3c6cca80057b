"""What a connection holds of a stream: a subscription for each channel, a reader for all of them.

A reader holds one live position for all of a connection's live subscriptions to a stream; a
subscription that is still replaying has a position of its own, until it joins (DESIGN decision 3).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contracts.cursor import Cursor
from services.gateway.core.access import Grant
from services.gateway.core.fanout import STEP_BYTES, Types
from services.gateway.core.log import Entry, Page
from services.gateway.core.replay import Start

if TYPE_CHECKING:
    from services.gateway.core.connection import Connection
    from services.gateway.core.stream import Stream


class Subscription:
    """One subscription: what it was granted and, until it is live, where its replay stands."""

    __slots__ = (
        "asked",
        "floors",
        "grants",
        "message_id",
        "on_gap",
        "position",
        "reader",
        "replayed",
        "start",
        "types",
    )

    def __init__(
        self,
        reader: "Reader",
        grants: tuple[Grant, ...],
        start: Start,
        types: Types,
        on_gap: str,
        message_id: object = None,
    ) -> None:
        self.reader = reader
        # One grant; several where an SSE request merges channels.
        self.grants = grants
        # Per grant the sequence after which it wants events: with `last` over several channels they differ.
        self.floors: tuple[int, ...] = ()
        # How it was asked to begin; None once that is resolved.
        self.start: Start | None = start
        self.types = types
        self.on_gap = on_gap
        # The id to repeat in the answer.
        self.message_id = message_id
        # Where its replay stands; None while it is being placed and once it is live.
        self.position: int | None = None
        # Events delivered so far; None once `live` was told.
        self.replayed: int | None = 0
        # What it waits for of the archive; an answer to anything else is late and ignored.
        self.asked: object | None = None

    @property
    def channel(self) -> str:
        """The channel's name; the first where several are merged."""
        return self.grants[0].channel

    @property
    def is_live(self) -> bool:
        """Whether its events come with the reader's."""
        return self.start is None and self.position is None

    def select(self, page: Page, after: int) -> list[Entry]:
        """What of `page` follows `after` and is for this subscription, in order, each once."""
        if len(self.grants) == 1:
            found: Sequence[Entry] = page.select(self.grants[0].key, after)
        else:
            merged: dict[int, Entry] = {}
            for grant, floor in zip(self.grants, self.floors, strict=True):
                merged.update((entry.sequence, entry) for entry in page.select(grant.key, max(after, floor)))
            found = [merged[sequence] for sequence in sorted(merged)]
        types = self.types
        return list(found) if types is None else [entry for entry in found if entry.type in types]


class Reader:
    """A connection's place in one stream."""

    __slots__ = ("connection", "position", "stream", "subscriptions")

    def __init__(self, connection: "Connection", stream: "Stream") -> None:
        self.connection = connection
        self.stream = stream
        # The live position: None at the log's high watermark, else where the connection stopped writing.
        self.position: int | None = None
        self.subscriptions: dict[str, Subscription] = {}

    @property
    def cursor(self) -> Cursor | None:
        """The least position written over all its channels; None while any of them is not live."""
        if not all(subscription.is_live for subscription in self.subscriptions.values()):
            return None
        log = self.stream.log
        return log.life.cursor(log.high if self.position is None else self.position)


def cut(entries: list[Entry], high: int) -> tuple[list[Entry], int]:
    """The first entries up to a step's bytes, and the position that is reached with them."""
    size = 0
    for count, entry in enumerate(entries, 1):
        size += len(entry.payload)
        if size >= STEP_BYTES and count < len(entries):
            return entries[:count], entry.sequence
    return entries, high
