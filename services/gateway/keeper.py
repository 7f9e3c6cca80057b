"""The keeper: owns every task of a replica, from the first connection to NATS to the last.

Connects, makes the streams where it is to, runs a feed and an archive for each, and turns the
timer wheel. If one of them fails for good, the replica ends; it never goes on without it.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import nats.errors
from structlog.stdlib import BoundLogger

from contracts.topology import StreamSpec
from services.chassis import jetstream
from services.chassis.tasks import is_wanted
from services.gateway.bus.feed import Feed
from services.gateway.bus.history import History
from services.gateway.bus.site import Site
from services.gateway.core.replica import Replica
from services.gateway.core.wheel import SLOT_SECONDS

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_CLOSE_SECONDS = 1.0
_NATS_ERRORS = (nats.errors.Error, OSError, jetstream.JetStreamError)


class Runs(Protocol):
    """Something that runs until it is cancelled."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Run, and deal with NATS being away."""


class Keeper:
    """Runs what a replica needs in the background."""

    def __init__(
        self,
        replica: Replica,
        site: Site,
        feeds: list[Feed],
        archives: list[History],
        others: Sequence[Runs],
        specs: tuple[StreamSpec, ...],
        *,
        nats_url: str,
        declare: bool,
        log: BoundLogger,
    ) -> None:
        self._replica = replica
        self._site = site
        self._feeds = feeds
        self._archives = archives
        # What else runs once NATS was there.
        self._others = others
        self._specs = specs
        self._nats_url = nats_url
        self._declare = declare
        self._log = log

    def nats_failing(self) -> str | None:
        """Why NATS is not there, for `/readyz`."""
        return None if self._site.is_connected else f"no connection to NATS at {self._nats_url.rpartition('@')[2]}"

    def feeds_failing(self) -> str | None:
        """Why events do not arrive, for `/readyz`."""
        return "; ".join(lag for feed in self._feeds if (lag := feed.lag) is not None) or None

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            NoRoom: the server cannot reserve what a stream asks for.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._turn_wheel())
            await self._connect()
            for archive in self._archives:
                group.create_task(archive.run())
            for feed in self._feeds:
                group.create_task(feed.run())
            for other in self._others:
                group.create_task(other.run())

    async def _connect(self) -> None:
        """Until NATS is there and the streams are."""
        pause = _FIRST_PAUSE
        while is_wanted():
            try:
                if not self._site.is_connected:
                    self._site.attach(await jetstream.connect(self._nats_url, name="gateway", log=self._log))
                if self._declare:
                    await jetstream.ensure(self._site.client, self._specs)
                return
            except jetstream.NoRoom:
                raise
            except _NATS_ERRORS as error:
                self._log.warning("waiting_for_nats", error=str(error) or type(error).__name__, next_try_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise asyncio.CancelledError

    async def _turn_wheel(self) -> None:
        while True:
            await asyncio.sleep(SLOT_SECONDS)
            self._replica.wheel.advance(self._replica.now())

    async def close(self) -> None:
        """Leave NATS; bounded in time."""
        if self._site.is_connected:
            with contextlib.suppress(*_NATS_ERRORS, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._site.client.close()
