"""The composition root of the gateway: settings in, a Starlette app out."""

import asyncio
import contextlib
import itertools
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from contracts.channels import Channels
from contracts.errors import Problem, Refused
from contracts.principal import Principal
from contracts.topology import PRESENCE_STORE, StreamSpec
from contracts.topology import streams as topology
from services.chassis import jetstream
from services.chassis.auth import TokenVerifier
from services.chassis.catalogue import catalogue_routes
from services.chassis.health import health_routes
from services.chassis.problems import EXCEPTION_HANDLERS
from services.chassis.telemetry import logger, metrics_registry
from services.gateway.a2a.facade import a2a_routes
from services.gateway.bus.decode import Decoder
from services.gateway.bus.feed import Feed
from services.gateway.bus.history import History
from services.gateway.bus.leases import Leases
from services.gateway.bus.place import shelves
from services.gateway.bus.plans import PlanRequests
from services.gateway.bus.signals import SignalLine
from services.gateway.bus.site import Site
from services.gateway.core.access import Access
from services.gateway.core.connection import Connection
from services.gateway.core.log import Life
from services.gateway.core.replica import Authenticate, Replica, Schedule
from services.gateway.core.stream import Stream
from services.gateway.core.wheel import Wheel
from services.gateway.keeper import Keeper, Runs
from services.gateway.metrics import gateway_metrics
from services.gateway.settings import GatewaySettings
from services.gateway.transports.handshake import WebSocketEndpoint
from services.gateway.transports.http import HttpEndpoints
from services.gateway.transports.identity import Identity
from services.gateway.transports.sse import EventsEndpoint

_log = logger("services.gateway")


def build(settings: GatewaySettings, verifier: TokenVerifier, on_fatal: Callable[[str], None]) -> Starlette:
    """The service; `on_fatal` is told, in one line, when it cannot go on. `app.state.replica` is the replica."""
    specs = topology(
        market_max_bytes=settings.market_max_bytes, replicas=settings.stream_replicas, specs=settings.domains.streams
    )
    site, replica = Site(settings.hub_domain), _replica(settings, verifier)
    feeds, archives = _streams(settings, specs, site, replica)
    keeper = Keeper(
        replica,
        site,
        feeds,
        archives,
        _presence(settings, site, replica),
        specs,
        nats_url=settings.nats_url,
        declare=settings.declares,
        log=_log,
    )
    registry = metrics_registry()
    gateway_metrics(replica, registry)
    app = Starlette(
        routes=_routes(
            settings, replica, keeper, PlanRequests(site), Identity(verifier, settings.allowed_origins), registry
        ),
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Last-Event-ID", "Content-Type", "A2A-Version", "A2A-Extensions"],
                allow_credentials=True,
            )
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=partial(_lifespan, keeper, on_fatal),
    )
    app.state.replica = replica
    return app


def _replica(settings: GatewaySettings, verifier: TokenVerifier) -> Replica:
    def wake(call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)

    return Replica(
        region=settings.region,
        limits=settings.limits(),
        access=Access(Channels(settings.domains.channels)),
        streams={},
        schedule=Schedule(wake, _on_fault),
        wheel=Wheel(time.monotonic()),
        authenticate=_authenticator(verifier),
        now=time.monotonic,
        wall=time.time,
        random=random.random,
        new_id=_ids(),
    )


def _ids() -> Callable[[], str]:
    """Names for connections: 16 hexadecimal digits, never twice in a replica and hardly ever in two."""
    numbers = itertools.count(secrets.randbits(64))
    return lambda: f"{next(numbers) & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def _on_fault(connection: Connection, error: Exception) -> None:
    _log.error("connection_abandoned", kind=type(connection).__name__, exc_info=error)


def _authenticator(verifier: TokenVerifier) -> Authenticate:
    """Verification as the core asks for it, by callback; waits for the issuer's keys at most, which has a deadline."""
    running: set[asyncio.Task[None]] = set()

    async def verify(token: str, done: Callable[[Principal | Problem], None]) -> None:
        try:
            outcome: Principal | Problem = await verifier.verify(token)
        except Refused as refused:
            outcome = refused.problem
        done(outcome)

    def authenticate(token: str, done: Callable[[Principal | Problem], None]) -> None:
        task = asyncio.get_running_loop().create_task(verify(token, done))
        running.add(task)
        task.add_done_callback(running.discard)

    return authenticate


def _streams(
    settings: GatewaySettings, specs: tuple[StreamSpec, ...], site: Site, replica: Replica
) -> tuple[list[Feed], list[History]]:
    """For each stream of the topology: the core's `Stream`, with a feed above and an archive below."""
    feeds, archives = [], []
    channels = Channels(settings.domains.channels)
    for spec in specs:
        decoder = Decoder(spec.name, channels, replica.tally, _log)
        here, hub = shelves(site, spec.name, spec.replay_mirror)
        archive = History(
            here,
            hub,
            decoder,
            partial(_life_of, replica, spec.name),
            _log,
            reads=settings.history_reads,
            scan_limit=settings.replay_scan_limit,
        )
        stream = Stream(spec.name, spec.subjects[0], settings.log_bytes, archive, replica.schedule.add, _on_fault)
        replica.streams[spec.name] = stream
        archives.append(archive)
        feeds.append(
            Feed(
                site,
                stream,
                decoder,
                replica.tally,
                _log,
                warm_events=settings.log_warm_events,
                declare=partial(_declare, site, spec) if settings.declares else None,
                hub=None if hub is None else hub.stream,
            )
        )
    return feeds, archives


def _presence(settings: GatewaySettings, site: Site, replica: Replica) -> list[Runs]:
    """What brings members and signals of other replicas here, and ours to them."""
    presence = replica.presence
    spec = replace(PRESENCE_STORE, replicas=settings.stream_replicas)
    leases = Leases(
        site,
        presence,
        _log,
        lease_seconds=settings.presence_lease_s,
        renew_seconds=settings.presence_renew_s,
        declare=partial(_declare, site, spec) if settings.declares else None,
    )
    line = SignalLine(site, presence.signals, presence.replica)
    presence.store, presence.signals.carrier = leases, line
    return [leases, line]


def _life_of(replica: Replica, name: str) -> Life:
    return replica.streams[name].log.life


async def _declare(site: Site, spec: StreamSpec) -> None:
    await jetstream.ensure(site.client, [spec])


def _routes(
    settings: GatewaySettings,
    replica: Replica,
    keeper: Keeper,
    plans: PlanRequests,
    identity: Identity,
    registry: CollectorRegistry,
) -> list[BaseRoute]:
    checks = {
        "nats": keeper.nats_failing,
        "streams": keeper.feeds_failing,
        "draining": lambda: "the replica is leaving" if replica.draining else None,
    }
    return [
        WebSocketRoute("/v1/ws", WebSocketEndpoint(replica, identity).accept),
        Route("/v1/events", EventsEndpoint(replica, identity).get, methods=["GET"]),
        *HttpEndpoints(replica, identity).routes(),
        *a2a_routes(replica, identity, plans, settings.public_url),
        *catalogue_routes(settings.domains),
        *health_routes(checks, registry, lambda: {"region": settings.region}),
    ]


@contextlib.asynccontextmanager
async def _lifespan(keeper: Keeper, on_fatal: Callable[[str], None], _: Starlette) -> AsyncIterator[None]:
    def on_end(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            reasons = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
            _log.error("stopping", exc_info=error)
            on_fatal(str(reasons[0]))

    running = asyncio.create_task(keeper.run())
    running.add_done_callback(on_end)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        await keeper.close()
