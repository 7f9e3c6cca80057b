"""The composition root of the gateway: settings in, a Starlette app out."""

import asyncio
import contextlib
import itertools
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from nats.aio.client import Client
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from contracts.channels import Channels
from contracts.errors import Problem, Refused
from contracts.principal import Principal
from contracts.revocation import Revocation
from contracts.topology import PRESENCE_STORE, StreamSpec
from contracts.topology import fleet as obeyed
from contracts.topology import streams as topology
from services.chassis import jetstream, memory
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.catalogue import catalogue_routes
from services.chassis.control import ControlReader
from services.chassis.health import health_routes
from services.chassis.problems import EXCEPTION_HANDLERS
from services.chassis.revocations import Revocations
from services.chassis.telemetry import logger, metrics_registry
from services.gateway.a2a.facade import a2a_routes
from services.gateway.bus.canary import Canary
from services.gateway.bus.decode import Decoder
from services.gateway.bus.feed import Feed
from services.gateway.bus.fleet import Fleet
from services.gateway.bus.gossip import Gossip
from services.gateway.bus.history import History
from services.gateway.bus.leases import Leases
from services.gateway.bus.place import shelves
from services.gateway.bus.plans import PlanRequests
from services.gateway.bus.revoking import Revoking
from services.gateway.bus.signals import SignalLine
from services.gateway.bus.site import Site
from services.gateway.core.access import Access
from services.gateway.core.arrivals import Arrivals
from services.gateway.core.connection import Connection
from services.gateway.core.drain import Drain
from services.gateway.core.log import Life
from services.gateway.core.memory import MemoryGuard
from services.gateway.core.replica import Authenticate, Replica, Schedule
from services.gateway.core.stream import Stream
from services.gateway.core.wheel import Wheel
from services.gateway.keeper import Keeper, Runs
from services.gateway.metrics import CanaryMetrics, gateway_metrics
from services.gateway.settings import GatewaySettings
from services.gateway.transports.address import Addresses
from services.gateway.transports.admin import AdminEndpoints
from services.gateway.transports.handshake import WebSocketEndpoint
from services.gateway.transports.http import HttpEndpoints
from services.gateway.transports.identity import Identity
from services.gateway.transports.members import MembersEndpoint
from services.gateway.transports.sse import EventsEndpoint

# Of what the control group allows: the rest is for what those who are here already may still need.
_MEMORY_SHARE = 0.85
_BODIES_BYTES = 1024 * 1024
_BODY_SECONDS = 10.0
_log = logger("services.gateway")


def build(settings: GatewaySettings, verifier: TokenVerifier, on_fatal: Callable[[str], None]) -> Starlette:
    """The service; `on_fatal` is told, in one line, when it cannot go on. `app.state.replica` is the replica."""
    specs = topology(
        market_max_bytes=settings.market_max_bytes, replicas=settings.stream_replicas, specs=settings.domains.streams
    )
    site, replica = Site(settings.hub_domain), _replica(settings, verifier)
    feeds, archives = _streams(settings, specs, site, replica)
    known = Revocations() if verifier.revocations is None else verifier.revocations
    control = _control(settings, known, site, replica)
    gossip = Gossip(site, replica, secrets.token_hex(8), _log)
    fleet = Fleet(site, replica, gossip, _log)
    guard = _memory_guard(settings, replica)
    every = (*specs, *obeyed(replicas=settings.stream_replicas))
    registry = metrics_registry()
    gateway_metrics(replica, gossip, guard, registry)
    keeper = Keeper(
        replica,
        site,
        feeds,
        archives,
        [*_presence(settings, site, replica), control, gossip, fleet, *_canary(settings, site, registry)],
        every,
        nats_url=settings.nats_url,
        declare=settings.declares,
        log=_log,
    )
    identity = Identity(verifier, settings.allowed_origins)
    addresses = Addresses(settings.trusted_proxies)
    arrivals = Arrivals(settings.connect_rate, settings.connect_burst, replica.now)
    admin = AdminEndpoints(
        identity,
        fleet,
        Revoking(site, known, partial(_on_revoked, replica)),
        bodies=Bodies(most_bytes=_BODIES_BYTES, seconds=_BODY_SECONDS),
        wall=time.time,
        log=_log,
    )
    app = Starlette(
        routes=[
            *_routes(settings, replica, identity, addresses, arrivals),
            *a2a_routes(
                replica,
                identity,
                PlanRequests(site),
                lambda connection: arrivals.refusal(addresses.of(connection)),
                public_url=settings.public_url,
            ),
            *admin.routes(),
            *_health(settings, replica, keeper, control, registry),
        ],
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
    app.state.replica, app.state.gossip = replica, gossip
    app.state.leave = partial(_leave, replica, settings.drain_grace_s, settings.drain_spread_s)
    return app


def _leave(replica: Replica, grace: float, spread: float, done: Callable[[], None]) -> Callable[[], None]:
    """Begin to leave; `done` is called when nobody is left. What hurries it."""
    _log.info("draining", connections=len(replica.connections), grace_seconds=grace, spread_seconds=spread)
    return Drain(replica, grace, spread, done).hurry


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
    """Names for connections: 20 hexadecimal digits, in the order in which they began, over all replicas."""
    last = 0
    numbers = itertools.count(secrets.randbits(36))

    def new_id() -> str:
        nonlocal last
        # Milliseconds, which last until the year 2527, and a number that began by chance: never twice in a replica and
        # hardly ever in two.
        last = max(last + 1, time.time_ns() // 1_000_000 << 36 | next(numbers) & 0xF_FFFF_FFFF)
        return f"{last:020x}"

    return new_id


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


def _canary(settings: GatewaySettings, site: Site, registry: CollectorRegistry) -> list[Runs]:
    """What times the way from the hub, where that is wanted."""
    if not settings.canary_seconds:
        return []
    metrics = CanaryMetrics(settings.region, registry)
    canary = Canary(
        site,
        settings.region,
        _log,
        every_seconds=settings.canary_seconds,
        measured=metrics.measured,
        lost=metrics.lost,
    )
    metrics.watch(lambda: canary.age)
    return [canary]


def _life_of(replica: Replica, name: str) -> Life:
    return replica.streams[name].log.life


async def _declare(site: Site, spec: StreamSpec) -> None:
    await jetstream.ensure(site.client, [spec])


def _control(settings: GatewaySettings, revocations: Revocations, site: Site, replica: Replica) -> ControlReader:
    """The reader of revocations; what is revoked closes here at once."""

    async def client() -> Client | None:
        return site.client if site.is_connected else None

    replica.judge = revocations.judge
    declare = obeyed(replicas=settings.stream_replicas) if settings.declares else ()
    return ControlReader(client, revocations, _log, declare=declare, on_revoked=partial(_on_revoked, replica))


def _on_revoked(replica: Replica, found: Sequence[Revocation]) -> None:
    replica.revoke([one.sub for one in found if one.sub], every=any(one.jti for one in found))


def _memory_guard(settings: GatewaySettings, replica: Replica) -> MemoryGuard | None:
    """What keeps new connections out when memory runs short; None where there is no limit."""
    limit = settings.memory_limit_bytes
    if limit is None:
        limit = int((memory.allowed_bytes() or 0) * _MEMORY_SHARE)

    def on_change(over: bool, resident: int) -> None:
        _log.warning("memory_over_limit" if over else "memory_within_limit", resident=resident, limit=limit)

    return MemoryGuard(replica, limit, memory.resident_bytes, on_change) if limit else None


def _routes(
    settings: GatewaySettings, replica: Replica, identity: Identity, addresses: Addresses, arrivals: Arrivals
) -> list[BaseRoute]:
    return [
        WebSocketRoute("/v1/ws", WebSocketEndpoint(replica, identity, addresses, arrivals)),
        Route("/v1/events", EventsEndpoint(replica, identity, addresses, arrivals).get, methods=["GET"]),
        *HttpEndpoints(replica, identity).routes(),
        *MembersEndpoint(replica, identity).routes(),
        *catalogue_routes(settings.domains),
    ]


def _health(
    settings: GatewaySettings, replica: Replica, keeper: Keeper, control: ControlReader, registry: CollectorRegistry
) -> list[Route]:
    checks = {
        "nats": keeper.nats_failing,
        "streams": keeper.feeds_failing,
        "revocations": control.failing,
        "draining": lambda: "the replica is leaving" if replica.leaving or replica.draining else None,
    }

    def facts() -> dict[str, object]:
        # Too much memory is told and is no reason to be unready: what stands here is served, and a balancer that
        # takes a full fleet out, replica by replica, would leave nobody to serve at all.
        return {"region": settings.region, "overloaded": replica.overloaded, "revocations": control.facts()}

    return health_routes(checks, registry, facts)


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
