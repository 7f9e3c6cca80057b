"""Signals: typing and status, from one client to the others in its channel, here and at other replicas (PROTOCOL §5).

Never stored: what a client does not take now it does not get, what is older than five seconds is dropped, and what
cannot be sent now is not sent. Who may see the sender gets it, by the same rule as for members. In a channel of
thousands a signal is handed on a part at a time, so that events are not kept waiting; where too many are under way,
the next one is dropped.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol

from contracts.presence import Note, NotPresence, decode_note, encode_note, signal
from services.gateway.core.access import Access, Grant
from services.gateway.core.connection import Connection
from services.gateway.core.frames import text_frame
from services.gateway.core.parties import Parties
from services.gateway.core.stream import Stream
from services.gateway.core.subscription import Subscription

EXPIRE_MS = 5000
# Clients that a signal is handed to in one turn of the loop.
_HANDED_A_TURN = 256
# Signals of one channel under way: more of them would be of little use by the time that they are told.
_MOST_UNDER_WAY = 16


class Carrier(Protocol):
    """What brings signals to the other replicas."""

    def carry(self, channel: str, payload: bytes) -> bool:
        """Send; False where that cannot be done now."""


@dataclass
class SignalTally:
    """Running totals for the metrics."""

    sent: int = 0
    received: int = 0
    delivered: int = 0
    # By reason: old, slow client, not carried, too many under way.
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        """One was dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class Signals:
    """Takes signals of clients here to all who are to get them, and those of other replicas to clients here."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        access: Access,
        parties: Parties,
        wall: Callable[[], float],
        wake: Callable[[Callable[[], None]], None],
    ) -> None:
        """`wake`: has a call made in the loop's next turn."""
        self._wake = wake
        # By channel, signals that have not been handed to everybody yet: each step hands one to one more client.
        self._under_way: dict[str, deque[Iterator[None]]] = {}
        self._streams = streams
        self._access = access
        self.parties = parties
        self._wall = wall
        # Set by the application; without one signals stay here.
        self.carrier: Carrier | None = None
        self.tally = SignalTally()

    def send(self, sender: Connection, grant: Grant, note: Note) -> None:
        """From a client here, who is a party of the channel."""
        self.tally.sent += 1
        if self.carrier is None or not self.carrier.carry(grant.channel, encode_note(note)):
            self.tally.drop("not_carried")
        self._deliver(self._streams[grant.stream], grant.channel, note, sender)

    def arrived(self, kind: str, channel_id: str, payload: bytes) -> None:
        """From another replica."""
        stream = self._streams.get(self._access.stream_of(kind, channel_id) or "")
        channel = f"{kind}:{channel_id}"
        if stream is None or next(stream.fanout.of(channel), None) is None:
            return
        self.tally.received += 1
        try:
            note = decode_note(payload)
        except NotPresence:
            self.tally.drop("malformed")
            return
        self._deliver(stream, channel, note, None)

    def _deliver(self, stream: Stream, channel: str, note: Note, sender: Connection | None) -> None:
        if self._is_old(note):
            self.tally.drop("old")
            return
        before = self._under_way.get(channel)
        if before is not None and len(before) >= _MOST_UNDER_WAY:
            self.tally.drop("too_many")
            return
        handing = self._handing(list(stream.fanout.of(channel)), channel, note, sender)
        if before is not None:
            before.append(handing)
        elif _goes_on(handing):
            self._under_way[channel] = deque((handing,))
            if len(self._under_way) == 1:
                self._wake(self._go_on)

    def _go_on(self) -> None:
        """A turn for the channel that has waited longest."""
        channel = next(iter(self._under_way))
        handings = self._under_way.pop(channel)
        handing = handings.popleft()
        try:
            if _goes_on(handing):
                handings.appendleft(handing)
        finally:  # one that raised is gone, and keeps none of the others back
            if handings:
                self._under_way[channel] = handings
            if self._under_way:
                self._wake(self._go_on)

    def _handing(
        self, subscriptions: list[Subscription], channel: str, note: Note, sender: Connection | None
    ) -> Iterator[None]:
        frame = text_frame(signal(channel, note))
        for subscription in subscriptions:
            connection = subscription.reader.connection
            grant = next((one for one in subscription.grants if one.channel == channel), None)
            if connection is not sender and grant is not None and grant.sees(note.sub, note.role):
                self.parties.judge(grant, partial(self._hand, connection, subscription, note, frame))
            yield

    def _hand(
        self, connection: Connection, subscription: Subscription, note: Note, frame: bytes, is_party: bool | None
    ) -> None:
        if not is_party or connection.closed or not subscription.is_live:
            return
        if self._is_old(note):
            self.tally.drop("old")
        elif not connection.writable:
            self.tally.drop("slow_client")
        elif connection.tell(frame):
            self.tally.delivered += 1

    def _is_old(self, note: Note) -> bool:
        return self._wall() * 1000 - note.at > EXPIRE_MS


def _goes_on(handing: Iterator[None]) -> bool:
    """Take a turn's steps; whether there may be more."""
    return sum(1 for _ in islice(handing, _HANDED_A_TURN)) == _HANDED_A_TURN
