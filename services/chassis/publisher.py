"""A publisher: what a service that keeps aggregates is put together from, and how it is started.

A service says what it offers and what it reacts to, as data; this makes a running process of it. Decides the order
of things at the beginning and at the end, and nothing of what happens in between.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram
from starlette.applications import Starlette
from structlog.stdlib import BoundLogger

from contracts.registry import REGISTRY, Registry
from contracts.topology import fleet, stores
from contracts.topology import streams as topology
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.commands import COMMAND_EXCEPTION_HANDLERS, Operation, Operations
from services.chassis.control import ControlReader
from services.chassis.directory import Directory
from services.chassis.launch import Errand, OnFatal, launch
from services.chassis.openapi import document, openapi_route
from services.chassis.reactions import Reactions, Source
from services.chassis.readiness import readiness_routes
from services.chassis.replay import CHOICES, replay
from services.chassis.settings import PublisherSettings
from services.chassis.store import EventStore
from services.chassis.storemetrics import store_metrics
from services.chassis.streams import Streams
from services.chassis.tasks import kept
from services.chassis.telemetry import logger, metrics_registry

Settings = TypeVar("Settings", bound=PublisherSettings)

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
# Time for the requests that are under way at SIGTERM.
_GRACEFUL_SECONDS = 4
_STREAM = "MARKET"


@dataclass(frozen=True)
class Parts:
    """What a service's own code stands on."""

    store: EventStore
    metrics: CollectorRegistry
    log: BoundLogger


@dataclass(frozen=True)
class Definition:
    """What a service offers over HTTP, and what it does of itself."""

    operations: Sequence[Operation]
    sources: Sequence[Source] = ()


Define = Callable[[Settings, Parts], Definition]


@dataclass(frozen=True)
class _Made:
    """One service put together, not yet running."""

    streams: Streams
    reactions: Reactions
    definition: Definition
    metrics: CollectorRegistry
    log: BoundLogger


def _make(name: str, settings: Settings, define: Define[Settings]) -> _Made:
    log = logger(f"services.{name}")
    metrics = metrics_registry()
    registry = Registry([*REGISTRY, *settings.domains.events])
    events = topology(
        market_max_bytes=settings.market_max_bytes,
        replicas=settings.stream_replicas,
        specs=settings.domains.streams,
    )
    streams = Streams(
        settings.nats_url,
        name=name,
        specs=(*events, *stores(replicas=settings.stream_replicas), *fleet(replicas=settings.stream_replicas)),
        needed=(_STREAM,),
        declare=settings.declares,
        monitor_url=settings.nats_monitor_url,
        log=log,
        domain=settings.hub_domain,
    )
    store = EventStore(
        streams,
        Directory(log),
        source=f"urn:a2a:service:{name}",
        metrics=store_metrics(metrics),
        registry=registry,
        ack_seconds=settings.ack_timeout_s,
        deadline_seconds=settings.store_deadline_s,
    )
    definition = define(settings, Parts(store, metrics, log))
    reactions = Reactions(
        name,
        definition.sources,
        streams,
        nats_url=settings.nats_url,
        metrics=metrics,
        log=log,
        registry=registry,
        domain=settings.hub_domain,
    )
    return _Made(streams, reactions, definition, metrics, log)


def build(
    name: str,
    description: str,
    define: Define[Settings],
    settings: Settings,
    verifier: TokenVerifier,
    on_fatal: OnFatal,
) -> Starlette:
    """The service; `on_fatal` is told in one line why it cannot go on, `app.state.leave` is called at SIGTERM."""
    made = _make(name, settings, define)
    streams, reactions, operations = made.streams, made.reactions, made.definition.operations
    seconds = Histogram(
        "a2a_operation_seconds", "Requests.", ["operation", "outcome"], registry=made.metrics, buckets=_SECONDS
    )
    bodies = Bodies(most_bytes=settings.bodies_max_bytes, seconds=settings.body_timeout_s)
    control = ControlReader(partial(streams.client, 0), verifier.revocations, made.log)
    health = readiness_routes(
        streams,
        control,
        made.metrics,
        region=settings.region,
        is_draining=lambda: app.state.draining,
        checks={"reactions": reactions.failing},
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        keeper = kept(streams.run(), made.log, on_fatal)
        reacting = kept(reactions.run(), made.log, on_fatal)
        obeying = kept(control.run(), made.log, on_fatal)
        try:
            yield
        finally:
            # Reactions first: what they have in hand is still to be stored.
            for task in (reacting, obeying, keeper):
                task.cancel()
                await asyncio.wait([task])

    app: Starlette = Starlette(
        routes=[
            *Operations(operations, verifier, bodies, seconds).routes(),
            openapi_route(document(name, description, operations)),
            *health,
        ],
        exception_handlers=COMMAND_EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.state.draining = False

    def leave() -> None:
        app.state.draining = True
        reactions.leave()

    app.state.leave = leave
    return app


def run(
    name: str,
    kind: type[Settings],
    define: Define[Settings],
    *,
    description: str,
    given: Sequence[str] | None = None,
) -> None:
    """Run the service until SIGTERM, or list or replay its dead letters where that is asked for."""

    def put_together(settings: Settings, verifier: TokenVerifier, on_fatal: OnFatal) -> Starlette:
        return build(name, description, define, settings, verifier, on_fatal)

    def dead_letters(settings: Settings, choice: str) -> int:
        made = _make(name, settings, define)
        return asyncio.run(replay(name, choice, made.streams, made.definition.sources, settings.domains.events))

    launch(
        name,
        kind,
        put_together,
        description=description,
        on_signal=lambda app: app.state.leave(),
        graceful_seconds=_GRACEFUL_SECONDS,
        errand=Errand(
            "--dead-letters", CHOICES, "list the messages that were given up on, or handle them again", dead_letters
        ),
        given=given,
    )
