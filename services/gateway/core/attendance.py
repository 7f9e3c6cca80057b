"""Attendance: what one WebSocket connection does with presence and signals; made when it first does.

Whoever takes part in a channel subscribes to it: so the rule of access holds here without being asked again, and a
subscription that ends, however it does, ends what it was there for.
"""

from functools import partial
from typing import TYPE_CHECKING

from msgspec import Raw

from contracts import presence as wire
from contracts.errors import ErrorCode, Problem
from services.gateway.core.access import Grant
from services.gateway.core.frames import text_frame
from services.gateway.core.limits import Limits, TokenBucket
from services.gateway.core.membership import Key
from services.gateway.core.view import Watcher

if TYPE_CHECKING:
    from services.gateway.core.session import Session

# The period over which presence operations are counted.
PRESENCE_SECONDS = 30.0
# Presence, and two kinds of signal.
_OPERATIONS = 3


class _Seat:
    """One connection's part in one channel."""

    __slots__ = ("data", "grant", "is_in", "is_party", "knows_of_nobody", "watcher", "watches")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        # Whether its holder is a party of the channel; None as long as that is not known.
        self.is_party: bool | None = None
        # What it entered with; None where it has not, or has left.
        self.data: Raw | None = None
        self.is_in = False
        # Whether it asked to be told of the others.
        self.watches = False
        self.watcher: Watcher | None = None
        # Whether it was told, as no party, that nobody is there.
        self.knows_of_nobody = False


class Attendance:
    """One session's."""

    __slots__ = ("_buckets", "_expected", "_key", "_seats", "_session")

    def __init__(self, session: "Session", key: Key) -> None:
        self._session = session
        self._key = key
        self._seats: dict[str, _Seat] = {}
        # Channels whose subscribe asked for presence and has not begun yet.
        self._expected: set[str] = set()
        # What was done of late, by channel and operation; kept over the end of a subscription, which pays no debt.
        self._buckets: dict[tuple[str, str], TokenBucket] = {}

    # Messages of the client.

    def take(self, message: wire.Presence | wire.Signal) -> Problem | None:
        """Act on one; what is refused, or None where it is dealt with."""
        return self._presence(message) if isinstance(message, wire.Presence) else self._signal(message)

    def _presence(self, message: wire.Presence) -> Problem | None:
        seat = self._admit(message.channel, "presence")
        if isinstance(seat, Problem):
            return seat
        if message.action == "leave":
            seat.data = None
            self._get_up(seat, at_once=True)
        else:
            # Whoever changes its data is there: an update enters where nobody has.
            seat.data, seat.is_in = wire.data_of(message.data), False
        self._session.tell(text_frame(wire.answer(message.id, message.channel)))
        self._act(seat)
        return None

    def _signal(self, message: wire.Signal) -> Problem | None:
        seat = self._admit(message.channel, message.kind)
        if isinstance(seat, Problem):
            return seat
        at = int(self._session.replica.wall() * 1000)
        note = wire.Note(*self._key, message.kind, at, wire.data_of(message.data))
        signals = self._session.replica.presence.signals
        if seat.is_party is None:
            self._act(seat)
            signals.parties.judge(seat.grant, partial(self._send, seat, note))
        elif seat.is_party:
            signals.send(self._session, seat.grant, note)
        return None

    def _send(self, seat: _Seat, note: wire.Note, is_party: bool | None) -> None:
        if is_party and not self._session.closed:
            self._session.replica.presence.signals.send(self._session, seat.grant, note)

    def _admit(self, channel: str, what: str) -> _Seat | Problem:
        """The seat in a channel that the client is subscribed to, one more of `what` granted by its rate."""
        seat = self._seat(channel)
        if seat is None:
            return Problem(ErrorCode.NOT_SUBSCRIBED, "presence and signals are of channels that one is subscribed to")
        wait = self._excess(channel, what)
        return Problem(ErrorCode.RATE_LIMITED, retry_after_ms=int(wait * 1000) + 1) if wait else seat

    def _excess(self, channel: str, what: str) -> float:
        """Take one from the rate: 0.0, or the seconds after which it would have been granted."""
        limits, now, place = self._session.replica.limits, self._session.replica.now(), (channel, what)
        rate, burst = _rate(limits, what)
        bucket = self._buckets.pop(place, None) or TokenBucket(burst, now)
        self._buckets[place] = bucket
        if len(self._buckets) > _OPERATIONS * limits.max_channels:
            del self._buckets[next(iter(self._buckets))]  # the one used longest ago
        return bucket.take(rate, burst, now)

    def _seat(self, channel: str) -> _Seat | None:
        seat = self._seats.get(channel)
        if seat is None:
            subscription = self._session.find(channel)
            if subscription is None:
                return None
            seat = self._seats[channel] = _Seat(subscription.grants[0])
        return seat

    # What becomes of its subscriptions.

    def expect(self, channel: str) -> None:
        """A subscribe is under way that asks to be told who is there."""
        self._expected.add(channel)

    def begun(self, channel: str) -> None:
        """A subscription has begun."""
        seat = self._seat(channel) if channel in self._expected else None
        if seat is not None:
            self._expected.discard(channel)
            seat.watches = True
            self._act(seat)

    def dropped(self, channel: str) -> None:
        """The subscription has ended: by the client, by its token, or with the connection, which may come back."""
        self._expected.discard(channel)
        seat = self._seats.pop(channel, None)
        if seat is None:
            return
        presence = self._session.replica.presence
        seat.data = None
        self._get_up(seat, at_once=not self._session.closed)
        presence.parties.forget(seat.grant, seat)
        if seat.watcher is not None:
            presence.unwatch(seat.watcher)

    def leave_all(self) -> None:
        """The principal may be here no more: without grace."""
        for seat in self._seats.values():
            self._get_up(seat, at_once=True)

    def caught_up(self) -> None:
        """The client takes what is written again."""
        for seat in self._seats.values():
            if seat.watcher is not None:
                self._session.replica.presence.caught_up(seat.watcher)

    # Taking part.

    def _act(self, seat: _Seat) -> None:
        """Do what the seat is there for, as far as it is known whether its holder is a party."""
        if seat.is_party:
            self._take_part(seat)
        elif seat.is_party is None:
            self._session.replica.presence.parties.judge(seat.grant, partial(self._judged, seat))
        elif seat.watches and not seat.knows_of_nobody:
            self._tell_of_nobody(seat)

    def _judged(self, seat: _Seat, is_party: bool | None) -> None:
        if self._seats.get(seat.grant.channel) is not seat or seat.is_party is not None:
            return
        # Where it cannot be known now it is none, until it is told otherwise.
        seat.is_party = bool(is_party)
        if not is_party:
            self._session.replica.presence.wait_for_party(seat.grant, seat, partial(self._became_party, seat))
        self._act(seat)

    def _became_party(self, seat: _Seat) -> None:
        seat.is_party = True
        self._take_part(seat)

    def _take_part(self, seat: _Seat) -> None:
        replica = self._session.replica
        if seat.data is not None and not seat.is_in:
            seat.is_in = True
            replica.presence.enter(seat.grant.channel, self._key, seat, seat.data, int(replica.wall() * 1000))
        if seat.watches and seat.watcher is None:
            seat.watcher = Watcher(self._session, seat.grant)
            replica.presence.watch(seat.watcher)

    def _get_up(self, seat: _Seat, *, at_once: bool) -> None:
        if seat.is_party:
            self._session.replica.presence.leave(seat.grant.channel, self._key, seat, at_once=at_once)
        seat.is_in = False

    def _tell_of_nobody(self, seat: _Seat) -> None:
        seat.knows_of_nobody = True
        self._session.tell(text_frame(wire.members(seat.grant.channel, (), more=False)))


def _rate(limits: Limits, what: str) -> tuple[float, float]:
    """How many a second, and at once."""
    if what == "presence":
        return limits.presence_burst / PRESENCE_SECONDS, limits.presence_burst
    return limits.typing_rate, max(1.0, limits.typing_rate)
