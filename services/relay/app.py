"""The relay as a service: looks at the site every few seconds, and tells over HTTP how it stands.

Waits for NATS for as long as it takes. Ends by itself for one reason only: at its first look the server
has no room for a stream, which no waiting mends.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

import nats.errors
from nats.aio.client import Client
from starlette.applications import Starlette

from contracts.topology import StreamSpec
from services.chassis.health import health_routes
from services.chassis.jetstream import UNKNOWN_SYNC, connect, durability, sync_interval
from services.chassis.telemetry import logger, metrics_registry
from services.relay.metrics import RelayMetrics
from services.relay.reconciler import Reconciler
from services.relay.report import StreamReport, told
from services.relay.settings import RelaySettings

EXIT_FAILED = 1
EXIT_NO_ROOM = 2
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 5.0
_CLOSE_SECONDS = 0.3
_log = logger(__name__)


class Relay:
    """One relay: its connection, its loop, and what the last look found."""

    def __init__(self, settings: RelaySettings, specs: Sequence[StreamSpec], *, allow_shrink: bool = False) -> None:
        self._settings = settings
        self._specs = specs
        self._allow_shrink = allow_shrink
        self._registry = metrics_registry()
        self._metrics = RelayMetrics(self._registry)
        # What the process is to end with; set where the relay gives up by itself.
        self.exit_code = 0
        # None until connected once; then nats-py's, which reconnects by itself.
        self._client: Client | None = None
        # Why the last attempt to connect or the last look failed; None where it did not.
        self._failure: str | None = "not yet tried"
        # What the last look that was answered found; None before the first.
        self._reports: list[StreamReport] | None = None
        self._sync = UNKNOWN_SYNC
        # Set before the loop is cancelled: `asyncio.wait_for`, under each request, loses a cancellation that comes
        # in the moment of its answer (Python 3.11), and the loop would go on for ever.
        self._stopping = False

    def app(self) -> Starlette:
        """The HTTP side; its lifespan runs the loop."""
        checks = {"nats": self._nats_reason, "streams": self._streams_reason}
        return Starlette(routes=health_routes(checks, self._registry, self._facts), lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self._run())
            yield
            self._stopping = True
            running.cancel()

    async def _run(self) -> None:
        try:
            await self._keep_looking()
        except Exception:  # noqa: BLE001
            # A bug. Serving on without the loop would look alive and do nothing.
            _log.exception("relay_failed")
            self._end(EXIT_FAILED)

    def _end(self, code: int) -> None:
        self.exit_code = code
        signal.raise_signal(signal.SIGTERM)

    async def _keep_looking(self) -> None:
        client = await self._connected()
        try:
            reconciler = Reconciler(
                client, self._specs, allow_shrink=self._allow_shrink, stall_seconds=self._settings.relay_stall_s
            )
            while not self._stopping:
                await self._look(client, reconciler)
                await asyncio.sleep(self._settings.relay_interval_s)
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.close(), _CLOSE_SECONDS)

    async def _connected(self) -> Client:
        """The connection, tried for as long as it takes."""
        wait = _FIRST_WAIT_SECONDS
        while not self._stopping:
            try:
                self._client = await connect(self._settings.nats_url, name="relay", log=_log)
            except (OSError, nats.errors.Error) as error:
                self._failure = _reason(error)
                _log.warning("waiting_for_nats", reason=self._failure, again_in_seconds=wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            else:
                return self._client
        raise asyncio.CancelledError

    async def _look(self, client: Client, reconciler: Reconciler) -> None:
        if not client.is_connected:
            self._metrics.failed()
            return
        try:
            reports = await reconciler.round()
        except (OSError, nats.errors.Error) as error:
            self._failure = _reason(error)
            self._metrics.failed()
            _log.warning("look_failed", reason=self._failure)
            return
        is_first, self._reports, self._failure = self._reports is None, reports, None
        self._metrics.observe(reports)
        if self._settings.nats_monitor_url is not None:
            self._sync = await sync_interval(self._settings.nats_monitor_url)
        self._tell(reports, is_first)

    def _tell(self, reports: Sequence[StreamReport], is_first: bool) -> None:
        wrong = told(reports, kept=False)
        for reason in wrong:
            _log.error("not_as_declared", reason=reason)
        if is_first:
            for reason in told(reports, kept=True):
                _log.warning("kept_as_it_is", reason=reason)
            _log.info("converged" if not wrong else "not_converged", **self._facts())
            if any(report.no_room for report in reports):
                print(f"error: {wrong[0].partition(': ')[2]}", file=sys.stderr, flush=True)
                self._end(EXIT_NO_ROOM)

    def _nats_reason(self) -> str | None:
        if self._client is None:
            return f"not connected to NATS: {self._failure}"
        return None if self._client.is_connected else "the connection to NATS is lost"

    def _streams_reason(self) -> str | None:
        if self._failure is not None:
            return f"the streams could not be read: {self._failure}"
        if self._reports is None:
            return "the streams have not been read yet"
        return "; ".join(told(self._reports, kept=False)) or None

    def _facts(self) -> Mapping[str, object]:
        reports = self._reports or []
        states = [report.stream for report in reports if report.stream is not None]
        return {
            "region": self._settings.region,
            "durability": durability(states, self._sync),
            "epochs": {found.name: found.epoch for found in states},
            "refused": told(reports, kept=True),
        }


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
