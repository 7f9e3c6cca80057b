"""A connection is a cursor over a log: a place in each stream it reads, and no queue.

Catch-up of a slow client, replay and live are the same act here: reading pages from a position.
This file never knows a wire format; the hooks at the end of `Connection` do.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from contracts.cursor import Cursor
from contracts.errors import Problem
from contracts.principal import Principal
from services.gateway.core.access import Grant
from services.gateway.core.fanout import Part, Types
from services.gateway.core.log import Page
from services.gateway.core.replay import (
    Answer,
    Bounds,
    Gap,
    Last,
    Need,
    NeedBounds,
    NeedPage,
    Placed,
    Start,
    judge,
    misses_nothing,
    need_of,
    page_needed,
    place_from_log,
    stale,
)
from services.gateway.core.subscription import Reader, Subscription, cut

if TYPE_CHECKING:
    from services.gateway.core.stream import Stream

Place = TypeVar("Place")


class Connection:
    """What all kinds of client have in common: subscriptions, places, steps."""

    __slots__ = ("_schedule", "closed", "readers", "writable")

    # How its client is connected; of kinds that have a client.
    TRANSPORT: ClassVar[str] = ""
    # Who it is, and whose: of those that stand among a replica's connections.
    connection_id: str
    principal: Principal | None

    def __init__(self, schedule: Callable[["Connection"], None]) -> None:
        """`schedule` has `step` called soon, and again for as long as that returns True."""
        self._schedule = schedule
        self.readers: dict[str, Reader] = {}
        # Whether the transport takes more; False between `pause` and `resume`.
        self.writable = True
        self.closed = False

    # What the transport tells.

    def pause(self) -> None:
        """The transport's buffer is above its high mark: note where each reader stands, and write no more events."""
        self.writable = False
        for reader in self.readers.values():
            if reader.position is None:
                reader.position = reader.stream.log.high

    def resume(self) -> None:
        """The buffer has drained: go on from where it stopped."""
        self.writable = True
        self._schedule(self)

    def release(self) -> None:
        """The connection is gone: leave every stream. Idempotent."""
        self.closed = True
        for reader in list(self.readers.values()):
            for subscription in list(reader.subscriptions.values()):
                self.drop(subscription)

    # Subscriptions.

    def subscribe(
        self,
        stream: "Stream",
        grants: tuple[Grant, ...],
        start: Start,
        types: Types,
        on_gap: str,
        message_id: object = None,
    ) -> Subscription:
        """Begin a subscription; `on_subscribed` or `on_failed` follows, perhaps at once."""
        reader = self.readers.get(stream.name)
        if reader is None:
            reader = self.readers[stream.name] = Reader(self, stream)
            stream.readers[reader] = None
            if not self.writable:
                reader.position = stream.log.high
        subscription = Subscription(reader, grants, start, types, on_gap, message_id)
        reader.subscriptions[subscription.channel] = subscription
        self.place(subscription, start)
        return subscription

    def find(self, channel: str) -> Subscription | None:
        """The subscription to this channel."""
        for reader in self.readers.values():
            found = reader.subscriptions.get(channel)
            if found is not None:
                return found
        return None

    @property
    def subscription_count(self) -> int:
        """How many channels the connection has."""
        return sum(len(reader.subscriptions) for reader in self.readers.values())

    def drop(self, subscription: Subscription) -> None:
        """End a subscription, whatever its state."""
        reader = subscription.reader
        subscription.asked = None
        self._leave_live(subscription)
        if reader.subscriptions.get(subscription.channel) is subscription:
            del reader.subscriptions[subscription.channel]
        reader.stream.lagging.discard(subscription)
        if not reader.subscriptions and self.readers.get(reader.stream.name) is reader:
            del self.readers[reader.stream.name]
            reader.stream.readers.pop(reader, None)

    def _leave_live(self, subscription: Subscription) -> None:
        for grant in subscription.grants:
            subscription.reader.stream.fanout.leave(grant.key, subscription.types, subscription)

    # Placing: from "how to begin" to a position.

    def place(self, subscription: Subscription, start: Start, floors: tuple[int, ...] = ()) -> None:
        """Resolve `start` for one grant after another, from the log or the archive; `floors`: of those before."""
        stream = subscription.reader.stream
        while len(floors) < len(subscription.grants):
            grant = subscription.grants[len(floors)]
            found = place_from_log(start, stream.log, grant.key, subscription.types)
            if isinstance(found, Problem):
                return self._fail(subscription, found)
            if found is None:
                need = need_of(start, stream.log, grant.key, grant.filters, subscription.types)
                return stream.ask(subscription, need, partial(self._on_placed, subscription, start, floors, need))
            floors = (*floors, found.position)
        return self._begin(subscription, floors, None)

    def _on_placed(
        self, subscription: Subscription, start: Start, floors: tuple[int, ...], need: Need, answer: Answer
    ) -> None:
        if subscription.asked is not need:
            return None
        stream = subscription.reader.stream
        log = stream.log
        if isinstance(answer, Bounds):
            judged = judge(start, log.life, log.high, answer)
            if isinstance(judged, NeedBounds):
                return stream.ask(subscription, judged, partial(self._on_placed, subscription, start, floors, judged))
            answer = judged
        if not isinstance(answer, Placed):
            return self._fail(subscription, answer if isinstance(answer, Problem) else stale("no answer"))
        if isinstance(start, Last):  # the one start that differs between channels
            return self.place(subscription, start, (*floors, answer.position))
        return self._begin(subscription, (answer.position,) * len(subscription.grants), answer.gap)

    def _begin(self, subscription: Subscription, floors: tuple[int, ...], gap: Gap | None) -> None:
        position = min(floors)
        if gap is not None and subscription.on_gap == "refuse":
            return self._fail(subscription, gap.refusal())
        subscription.asked = subscription.start = None
        subscription.floors = floors
        subscription.position = position
        self.on_subscribed(subscription, subscription.reader.stream.log.life.cursor(position), gap)
        if not self.closed:
            self._join_or_read(subscription, position)
        return None

    def _fail(self, subscription: Subscription, problem: Problem) -> None:
        self.drop(subscription)
        self.on_failed(subscription, problem)

    # Reading: from a position to live.

    def step(self) -> bool:
        """Write the next piece of whatever is not live, each in turn; whether there is more to write at once."""
        for name, reader in list(self.readers.items()):
            if self.closed or not self.writable:
                return False
            if self._step(reader):
                _to_the_back(self.readers, name)
                return True
        return False

    def _step(self, reader: Reader) -> bool:
        if reader.position is not None:
            return self._catch_up(reader, reader.position)
        for channel, subscription in list(reader.subscriptions.items()):
            position = subscription.position
            if position is not None and subscription.asked is None and self._join_or_read(subscription, position):
                _to_the_back(reader.subscriptions, channel)
                return True
        return False

    def _join_or_read(self, subscription: Subscription, position: int) -> bool:
        """Join if it has reached the live position, else read on; whether something was read."""
        reader = subscription.reader
        stream, log = reader.stream, reader.stream.log
        if position == log.high and reader.position is None:
            self._join(subscription)
            return False
        if position > log.high:
            stream.lagging.add(subscription)
            return False
        if not self.writable:
            return False
        page = log.page(position) if position >= log.low else stream.archive.cached(position)
        if page is None:
            if position < log.low:
                self._ask_page(subscription, position)
            return False
        self._write_page(subscription, page, position)
        self._schedule(self)
        return True

    def _join(self, subscription: Subscription) -> None:
        subscription.position = None
        stream = subscription.reader.stream
        for grant in subscription.grants:
            stream.fanout.join(grant.key, grant.channel, subscription.types, subscription)
        replayed, subscription.replayed = subscription.replayed, None
        if replayed is not None:
            self.on_live(subscription, stream.log.life.cursor(stream.log.high), replayed)

    def _ask_page(self, subscription: Subscription, position: int) -> None:
        stream = subscription.reader.stream
        filters = tuple(dict.fromkeys(one for grant in subscription.grants for one in grant.filters))
        need = page_needed(position, stream.log.low, filters, stream.whole)
        stream.ask(subscription, need, partial(self._on_page, subscription, need))

    def _on_page(self, subscription: Subscription, need: NeedPage, answer: Answer) -> None:
        if subscription.asked is not need:
            return None
        subscription.asked = None
        position = subscription.position
        if not isinstance(answer, Page) or position is None:
            return self._fail(subscription, answer if isinstance(answer, Problem) else stale("no answer"))
        if answer.low > position:
            life = subscription.reader.stream.log.life
            self.name_gap(subscription, Gap("expired", str(life.cursor(position)), life.cursor(answer.low)))
            if self.closed or subscription.position is None:
                return None
            position = subscription.position = answer.low
        if self.writable:
            self._write_page(subscription, answer, position, whole=need.filters is not None)
            self._schedule(self)
        return None

    def name_gap(self, subscription: Subscription, gap: Gap) -> None:
        """Tell a gap that opened after the subscription began; ends the subscription where it refuses gaps."""
        if subscription.on_gap == "refuse":
            self._fail(subscription, gap.refusal())
        else:
            self.on_gap(subscription, gap)

    def _write_page(self, subscription: Subscription, page: Page, position: int, *, whole: bool = False) -> None:
        """Write the next step of a page; `whole` for one read for this subscription alone, small and kept by nobody."""
        if whole:
            part, position = Part(subscription.channel, subscription.select(page, position)), page.high
        else:
            part, position = self._piece(subscription, page, position)
        subscription.position = position
        if subscription.replayed is not None:
            subscription.replayed += len(part.entries)
        if part.entries:
            self.on_events([part])

    def _piece(self, subscription: Subscription, page: Page, position: int) -> tuple[Part, int]:
        """The next step of a page and where it ends; made once for all who read it alike, as in a reconnect storm."""
        pieces = subscription.reader.stream.pieces
        keys = tuple(grant.key for grant in subscription.grants)
        floors = subscription.floors if len(keys) > 1 else ()
        asked = (page, len(page.entries), subscription.channel, keys, floors, subscription.types, position)
        found = pieces.get(asked)
        if found is None:
            entries, end = cut(subscription.select(page, position), page.high)
            found = Part(subscription.channel, entries), end
            pieces.keep(asked, found)
        return found

    def _catch_up(self, reader: Reader, position: int) -> bool:
        """Bring the live position on by one piece; whether it moved."""
        log = reader.stream.log
        live = [subscription for subscription in reader.subscriptions.values() if subscription.is_live]
        if position < log.low:
            self._fall_back(reader, live, position)
            return True
        page = log.page(position)
        if page is None:
            reader.position = None
            self._schedule(self)
            return False
        found = [(subscription, *cut(subscription.select(page, position), page.high)) for subscription in live]
        upto = min((end for _, _, end in found), default=page.high)
        reader.position = upto
        parts = [
            Part(subscription.channel, chosen)
            for subscription, entries, _ in found
            if (chosen := [entry for entry in entries if entry.sequence <= upto])
        ]
        if parts:
            self.on_events(parts)
        return True

    def _fall_back(self, reader: Reader, live: list[Subscription], position: int) -> None:
        """The log no longer holds what follows: each channel replays on its own, from the stream."""
        reader.position = None
        for subscription in live:
            self._leave_live(subscription)
            subscription.position = position
            subscription.floors = (position,) * len(subscription.grants)

    def restart(self, reader: Reader, reason: str, left_at: Cursor, to: Cursor) -> None:
        """The stream is no longer what the reader read up to `left_at`: name the gap and go on after `to`."""
        live_at, reader.position = reader.position, None if self.writable else to.sequence
        for subscription in list(reader.subscriptions.values()):
            if self.closed:
                return
            self._leave_live(subscription)
            subscription.asked = None
            reader.stream.lagging.discard(subscription)
            if subscription.start is not None:
                self.place(subscription, subscription.start)
                continue
            position = subscription.position if subscription.position is not None else live_at
            stood = Cursor(left_at.stream, left_at.epoch, left_at.sequence if position is None else position)
            if stood.epoch == to.epoch and misses_nothing(stood.sequence, reason, to.sequence):
                if subscription.position is None:
                    subscription.floors = (stood.sequence,) * len(subscription.grants)
                elif reason == "ahead":  # what is stored above the cut from now on is new
                    subscription.floors = tuple(min(floor, to.sequence) for floor in subscription.floors)
                subscription.position = stood.sequence
                continue
            subscription.position = to.sequence
            subscription.floors = (to.sequence,) * len(subscription.grants)
            self.name_gap(subscription, Gap(reason, str(stood), to))
        self._schedule(self)

    def abandon(self) -> None:
        """Something of this connection raised: let it go without a word, so that its client comes back and resumes."""
        self.release()

    def announce_drain(self, reconnect_in_ms: int) -> None:
        """The replica is leaving, and `drain` follows in so many milliseconds; not every kind of client is told."""

    def drain(self, *, told: bool = False) -> None:
        """The replica is leaving: end, so that the client comes back elsewhere; `told`: it knows."""
        self.abandon()

    def let_go(self) -> None:
        """An admin closes it; its client may come back."""
        self.abandon()

    # What a kind of client does about it.

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        """Delivery begins after `cursor`."""
        raise NotImplementedError

    def on_events(self, parts: list[Part]) -> None:
        """Write these events, now, as one write."""
        raise NotImplementedError

    def on_live(self, subscription: Subscription, cursor: Cursor, replayed: int) -> None:
        """The replay has joined."""
        raise NotImplementedError

    def on_gap(self, subscription: Subscription, gap: Gap) -> None:
        """A gap opened in a running subscription."""
        raise NotImplementedError

    def on_failed(self, subscription: Subscription, problem: Problem) -> None:
        """The subscription could not begin or go on, and is gone."""
        raise NotImplementedError

    def tell(self, frame: bytes) -> bool:
        """Write a WebSocket frame of what is no event; False for a kind of client that takes none."""
        return False


def _to_the_back(places: "dict[str, Place]", name: str) -> None:
    """Have the others go first next time."""
    if name in places:
        places[name] = places.pop(name)
