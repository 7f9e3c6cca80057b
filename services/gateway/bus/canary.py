"""The canary: how long an event takes from the hub to this gateway's edge, measured all the time.

A tiny message goes to a stream of its own at the hub, comes back through the same kind of mirror and the same kind of
feed as events do, and is then forgotten: no channel reads it, no log keeps it, and the market does not grow by it.
Both moments are of this process's clock, so that no clock has to agree with another.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import nats.errors
from structlog.stdlib import BoundLogger

from contracts.channels import Channels
from contracts.topology import CANARY
from services.chassis.tasks import is_wanted
from services.gateway.bus.decode import Decoder
from services.gateway.bus.feed import Feed
from services.gateway.bus.place import shelves
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.log import Entry, Life, Page
from services.gateway.core.replay import Answer, Need
from services.gateway.core.replica import Tally
from services.gateway.core.stream import Stream

_ACK_SECONDS = 2.0
_MOST_UNDER_WAY = 64
_LOG_BYTES = 64 * 1024


@dataclass(slots=True)
class _Flight:
    """One canary, from its sending."""

    sent: float
    # How long the hub's acknowledgement took, and when it was delivered here; either may come first.
    round_trip: float | None = None
    delivered: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the hub to the edge, once both are known: half of the acknowledgement's way was the way up."""
        if self.round_trip is None or self.delivered is None:
            return None
        return max(self.delivered - self.sent - self.round_trip / 2, 0.0)


class Canary:
    """Sends them, and meets them again."""

    def __init__(
        self,
        site: Site,
        region: str,
        log: BoundLogger,
        *,
        every_seconds: float,
        measured: Callable[[float], None],
        lost: Callable[[], None],
    ) -> None:
        """`measured` is told of each that came, in seconds; `lost` of each that did not."""
        self._site = site
        self._subject = f"canary.{region}"
        self._every_seconds = every_seconds
        self._measured = measured
        self._lost = lost
        # Other replicas' canaries come here too, and are nobody's.
        self._name = secrets.token_hex(8)
        self._flights: OrderedDict[bytes, _Flight] = OrderedDict()
        self._met_at: float | None = None
        _, hub = shelves(site, CANARY, "")
        stream = Stream(CANARY, "canary.>", _LOG_BYTES, _NoArchive(), lambda _: None, lambda *_: None)
        decoder = _Meeting(self._meet, log)
        self._feed = Feed(
            site, stream, decoder, Tally(), log, warm_events=0, declare=None, hub=None if hub is None else hub.stream
        )

    @property
    def age(self) -> float:
        """Seconds since the last one came; -1 before the first."""
        return -1.0 if self._met_at is None else monotonic() - self._met_at

    async def run(self) -> None:
        """Send for ever; ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.run())
            number = 0
            while is_wanted():
                group.create_task(self._send(b"%b.%d" % (self._name.encode(), number)))
                number += 1
                await asyncio.sleep(self._every_seconds)

    async def _send(self, payload: bytes) -> None:
        flight = self._flights[payload] = _Flight(monotonic())
        if len(self._flights) > _MOST_UNDER_WAY:
            self._flights.popitem(last=False)
            self._lost()
        try:
            await self._site.client.request(self._subject, payload, timeout=_ACK_SECONDS)
        except (nats.errors.Error, NotConnected, OSError):
            if self._flights.pop(payload, None) is not None:
                self._lost()
            return
        flight.round_trip = monotonic() - flight.sent
        self._land(payload, flight)

    def _meet(self, payload: bytes) -> None:
        flight = self._flights.get(payload)
        if flight is not None:
            flight.delivered = self._met_at = monotonic()
            self._land(payload, flight)

    def _land(self, payload: bytes, flight: _Flight) -> None:
        seconds = flight.seconds
        if seconds is not None and self._flights.pop(payload, None) is not None:
            self._measured(seconds)


class _Meeting(Decoder):
    """Tells of what the feed brings, and makes no events of it."""

    def __init__(self, meet: Callable[[bytes], None], log: BoundLogger) -> None:
        super().__init__(CANARY, Channels(()), Tally(), log)
        self._meet = meet

    def entry(self, life: Life, sequence: int, time_ns: int, subject: str, payload: bytes) -> Entry | None:
        """Never an entry."""
        self._meet(payload)
        return None


class _NoArchive:
    """Nobody replays canaries."""

    def cached(self, after: int) -> Page | None:
        """Nothing."""
        return None

    def ask(self, need: Need, done: Callable[[Answer], None], is_wanted: Callable[[], bool]) -> None:
        """Nobody asks."""
        raise NotImplementedError
