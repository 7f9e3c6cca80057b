"""History: reads of one stream below the log, asked for by the core (DESIGN decision 4).

Equal needs share one read, however many clients wait. What is in flight is bounded, what waits is bounded, and each
read has a deadline, within which it is tried again. Scans go one at a time; and what only the hub can answer waits
in lanes of its own, so that a link that is cut holds up nobody whose events are here.
"""

import asyncio
from collections.abc import Callable

from structlog.stdlib import BoundLogger

from services.gateway.bus.decode import Decoder
from services.gateway.bus.lane import Done, Lane
from services.gateway.bus.pages import PageCache
from services.gateway.bus.place import Shelf
from services.gateway.bus.reads import Reads
from services.gateway.core.log import Life, Page
from services.gateway.core.replay import Need, NeedBounds

_WAITING_READS = 10_000
_WAITING_SCANS = 256


class History:
    """The archive of one stream; implements `core.replay.Archive`."""

    def __init__(
        self,
        shelf: Shelf,
        hub: Shelf | None,
        decoder: Decoder,
        life: Callable[[], Life],
        log: BoundLogger,
        *,
        reads: int,
        scan_limit: int,
    ) -> None:
        """`hub`: its shelf, in a region; `reads` at once at most; `scan_limit`: what a filtered read may pass over."""
        self._life = life
        self._pages = PageCache()
        log = log.bind(stream=shelf.stream.name)

        def lanes(of: Shelf, *, settles: bool, onward: tuple[Lane, Lane] | None) -> tuple[Reads, tuple[Lane, Lane]]:
            made = Reads(of, self._pages, decoder, scan_limit=scan_limit, settles=settles)
            read = lambda need: made.read(life(), need)  # noqa: E731
            quick, scans = onward or (None, None)
            return made, (Lane(read, _WAITING_READS, reads, log, quick), Lane(read, _WAITING_SCANS, 1, log, scans))

        self._afar = None if hub is None else lanes(hub, settles=True, onward=None)[1]
        self._here, self._lanes = lanes(shelf, settles=hub is None, onward=self._afar)

    async def run(self) -> None:
        """Read for ever; ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            for lane in (*self._lanes, *(self._afar or ())):
                group.create_task(lane.run())

    def cached(self, after: int) -> Page | None:
        """A page in memory that reads on from `after`."""
        return self._pages.find(self._life(), after)

    def ask(self, need: Need, done: Done, is_wanted: Callable[[], bool]) -> None:
        """Read, together with whoever needs the same; answered by a Problem where too many wait already."""
        quick, scans = self._lanes
        if self._afar is not None and isinstance(need, NeedBounds) and need.of_hub:
            quick = self._afar[0]
        (scans if self._here.is_scan(self._life(), need) else quick).ask(need, done, is_wanted)
