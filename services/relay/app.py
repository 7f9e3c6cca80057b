"""The relay as a service: looks at the site every few seconds, and tells over HTTP how it stands.

Waits for NATS for as long as it takes. Ends by itself for one reason only: at its first look the server
has no room for a stream, which no waiting mends.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import nats.errors
from nats.aio.client import Client
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from contracts.topology import StreamSpec
from services.chassis.health import health_routes
from services.chassis.jetstream import connect
from services.chassis.telemetry import logger, metrics_registry
from services.relay.hub import HubRole
from services.relay.region import RegionRole
from services.relay.settings import RelaySettings

EXIT_FAILED = 1
EXIT_NO_ROOM = 2
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 5.0
_CLOSE_SECONDS = 0.3
_log = logger(__name__)


class Role(Protocol):
    """What a relay does at its site: `HubRole`, `RegionRole`."""

    # Why the server has no room for a stream, found at the first look.
    no_room: str | None

    def attach(self, client: Client) -> None: ...
    async def round(self) -> None: ...
    def failed(self) -> None: ...
    def failing(self) -> str | None: ...
    def facts(self) -> Mapping[str, object]: ...


class Relay:
    """One relay: its connection, its loop, and the role it has at its site."""

    def __init__(
        self,
        settings: RelaySettings,
        specs: Sequence[StreamSpec],
        *,
        allow_shrink: bool = False,
        allow_replace: bool = False,
    ) -> None:
        self._settings = settings
        self._registry = metrics_registry()
        self._role: Role = _role(settings, specs, self._registry, allow_shrink, allow_replace)
        # What the process is to end with; set where the relay gives up by itself.
        self.exit_code = 0
        # None until connected once; then nats-py's, which reconnects by itself.
        self._client: Client | None = None
        # Why the last attempt to connect or the last look failed; None where it did not.
        self._failure: str | None = "not yet tried"
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
            self._role.attach(client)
            while not self._stopping:
                await self._look(client)
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

    async def _look(self, client: Client) -> None:
        if not client.is_connected:
            self._role.failed()
            return
        try:
            await self._role.round()
        except (OSError, nats.errors.Error) as error:
            self._failure = _reason(error)
            self._role.failed()
            _log.warning("look_failed", reason=self._failure)
            return
        self._failure = None
        if self._role.no_room is not None and not self.exit_code:
            print(f"error: {self._role.no_room}", file=sys.stderr, flush=True)
            self._end(EXIT_NO_ROOM)

    def _nats_reason(self) -> str | None:
        if self._client is None:
            return f"not connected to NATS: {self._failure}"
        return None if self._client.is_connected else "the connection to NATS is lost"

    def _streams_reason(self) -> str | None:
        if self._failure is not None:
            return f"the streams could not be read: {self._failure}"
        return self._role.failing()

    def _facts(self) -> Mapping[str, object]:
        return {"region": self._settings.region, **self._role.facts()}


def _role(
    settings: RelaySettings,
    specs: Sequence[StreamSpec],
    registry: CollectorRegistry,
    allow_shrink: bool,
    allow_replace: bool,
) -> Role:
    if settings.is_region:
        return RegionRole(
            specs,
            registry,
            region=settings.region,
            hub_domain=settings.hub_domain,
            retention=settings.retention,
            allow_replace=allow_replace,
            stall_seconds=settings.relay_stall_s,
            limit_seconds=settings.region_behind_s,
        )
    return HubRole(
        specs,
        registry,
        allow_shrink=allow_shrink,
        stall_seconds=settings.relay_stall_s,
        monitor_url=settings.nats_monitor_url,
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
