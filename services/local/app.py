"""Which processes the one-machine system is made of, and what each is told.

The supervisor holds every HTTP socket and hands it down, so an address is known before anybody serves
it and stays the same when a child is started again.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import services
from services.chassis.settings import EXIT_WRONG_SETTING
from services.local.child import Child, ChildFailed, Program
from services.local.embedded import find_binary, free_port, hub_options, write_config
from services.local.folder import DataFolder
from services.local.logfile import LogFile
from services.local.regions import HUB_DOMAIN, LocalRegion
from services.local.settings import LocalSettings
from services.local.sockets import HOST, listening, url_of
from services.local.supervisor import Stage, Supervisor
from services.local.tokens import Mint, new_webhook_secret

_SERVICES = ("gateway", "ingest", "deals", "orders", "payments", "plans", "relay")
# Children that start together stop together, so these three stages end within less than 5 s, which is what a person
# and a service manager wait for.
_STOP_SECONDS: Mapping[str, float] = {
    "traffic": 0.3,
    "gateway": 2.4,
    "ingest": 2.4,
    "deals": 2.4,
    "orders": 2.4,
    "payments": 2.4,
    "plans": 2.4,
    "relay": 2.4,
    "nats": 0.8,
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is."""

    gateway: str
    ingest: str
    deals: str
    orders: str
    payments: str
    plans: str
    relay: str
    nats: str


class System:
    """One data folder, its sockets, its children."""

    def __init__(
        self,
        settings: LocalSettings,
        folder: DataFolder,
        *,
        port: int,
        traffic: bool,
        tell: Callable[[str], None],
        regions: tuple[str, ...] = (),
    ) -> None:
        """Bind the sockets and write nats-server's configuration; nothing is started.

        Raises:
            PortTaken: the gateway's port is taken.
            NatsNotFound: there is no nats-server.
        """
        self._settings = settings
        self._folder = folder
        self._tell = tell
        self._sockets = {name: listening(port if name == "gateway" else 0) for name in _SERVICES}
        # The children hold the other end: see services.local.leash.
        self._leash_pipe, self._leash_end = os.pipe()
        self._nats_port, self._monitor_port = free_port(), free_port()
        self._regions = [LocalRegion.bind(name) for name in regions]
        # Where the regions' nats-servers join.
        self._leaf_port = free_port() if regions else None
        secret = settings.jwt_hs256_secret or folder.secret()
        self._secret = secret
        # What the payment provider of this run signs with.
        self.webhook_secret = settings.payment_webhook_secret or new_webhook_secret()
        self.mint = Mint(secret, settings.jwt_issuer, settings.jwt_audience)
        served = [self._service(name, self._sockets[name]) for name in _SERVICES]
        served += [
            self._service(name, listener, region)
            for region in self._regions
            for name, listener in region.sockets.items()
        ]
        stores = [self._nats(), *(self._region_nats(region) for region in self._regions)]
        driven = [self._traffic()] if traffic else []
        self.supervisor = Supervisor([Stage(stores), Stage(served, self._make_streams), Stage(driven)])

    @property
    def addresses(self) -> Addresses:
        """Where everything is, known before it is there."""
        at = {name: url_of(listener) for name, listener in self._sockets.items()}
        return Addresses(**at, nats=f"nats://{HOST}:{self._nats_port}")

    @property
    def regions(self) -> dict[str, dict[str, str]]:
        """Where each region is."""
        return {region.name: region.addresses() for region in self._regions}

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Run until the supervisor is told to stop.

        Raises:
            ChildFailed: a child cannot run.
        """
        try:
            await self.supervisor.run(on_ready)
        finally:
            for listener in self._sockets.values():
                listener.close()
            for region in self._regions:
                region.close()
            os.close(self._leash_pipe)
            os.close(self._leash_end)

    async def _make_streams(self) -> None:
        # Imported here, while the services import what they need: together this is a second of everybody's start.
        from services.local.streams import DoesNotFit, make_streams  # noqa: PLC0415

        try:
            await make_streams(self.addresses.nats, market_max_bytes=self._settings.market_max_bytes)
        except DoesNotFit as error:
            raise ChildFailed(str(error), EXIT_WRONG_SETTING) from error

    def _child(self, program: Program) -> Child:
        log = LogFile(self._folder.logs / f"{program.name}.log")
        return Child(program, log, leash_pipe=self._leash_pipe, tell=self._tell)

    def _nats(self) -> Child:
        options = hub_options(HUB_DOMAIN, self._leaf_port) if self._leaf_port is not None else ()
        config = write_config(self._folder.nats, self._nats_port, self._monitor_port, *options)
        return self._nats_server("nats", config, self._monitor_port)

    def _region_nats(self, region: LocalRegion) -> Child:
        config = region.configure(self._folder.path / f"nats-{region.name}", self._leaf_port or 0)
        return self._nats_server(f"nats-{region.name}", config, region.monitor_port)

    def _nats_server(self, name: str, config: Path, monitor_port: int) -> Child:
        return self._child(
            Program(
                name=name,
                command=(find_binary(), "-c", str(config)),
                environment=dict(os.environ),
                ready_url=f"http://{HOST}:{monitor_port}/healthz",
                files=(self._folder.lock,),
                stop_seconds=_STOP_SECONDS["nats"],
                death_signal=signal.SIGTERM,  # enough for it, and it closes its files in order
            )
        )

    def _service(self, name: str, listener: socket.socket, region: LocalRegion | None = None) -> Child:
        drain = self._settings.drain_grace_s + self._settings.drain_spread_s if name == "gateway" else 0
        told = region.environment() if region is not None else {}
        return self._child(
            Program(
                name=f"{name}-{region.name}" if region is not None else name,
                command=(sys.executable, "-m", f"services.{name}"),
                environment={**self._environment(), **told, "A2A_HTTP_FD": str(listener.fileno())},
                ready_url=f"{url_of(listener)}/readyz",
                files=(listener.fileno(),),
                refusal_code=EXIT_WRONG_SETTING,
                stop_seconds=_STOP_SECONDS[name] + drain,
            )
        )

    def _traffic(self) -> Child:
        return self._child(
            Program(
                name="traffic",
                command=(sys.executable, "-m", "services.local.traffic"),
                environment={
                    **self._environment(),
                    "A2A_DEALS_URL": self.addresses.deals,
                    "A2A_GATEWAY_URL": self.addresses.gateway,
                    "A2A_PAYMENTS_URL": self.addresses.payments,
                },
                refusal_code=EXIT_WRONG_SETTING,
                stop_seconds=_STOP_SECONDS["traffic"],
            )
        )

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        path = [str(Path(services.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "A2A_NATS_URL": self.addresses.nats,
            "A2A_NATS_MONITOR_URL": f"http://{HOST}:{self._monitor_port}",
            "A2A_HTTP_HOST": HOST,
            "A2A_JWT_HS256_SECRET": self._secret,
            "A2A_PAYMENT_WEBHOOK_SECRET": self.webhook_secret,
            "A2A_MARKET_MAX_BYTES": str(settings.market_max_bytes),
            "A2A_REGION": settings.region,
            "A2A_HUB_DOMAIN": "",
            "A2A_DRAIN_GRACE_S": f"{settings.drain_grace_s:g}",
            "A2A_DRAIN_SPREAD_S": f"{settings.drain_spread_s:g}",
        }
