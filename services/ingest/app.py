"""The composition root of ingest: settings in, a Starlette app out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from starlette.applications import Starlette

from contracts.registry import REGISTRY, Registry
from contracts.topology import fleet
from contracts.topology import streams as topology
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.catalogue import catalogue_routes
from services.chassis.control import ControlReader
from services.chassis.problems import EXCEPTION_HANDLERS
from services.chassis.readiness import readiness_routes
from services.chassis.streams import Streams
from services.chassis.tasks import kept
from services.chassis.telemetry import logger, metrics_registry
from services.ingest.metrics import metrics_in
from services.ingest.routes import EventRoutes
from services.ingest.settings import IngestSettings
from services.ingest.store import JetStreamStore


def build(settings: IngestSettings, verifier: TokenVerifier, on_fatal: Callable[[str], None]) -> Starlette:
    """The service; `on_fatal` is told in one line why it cannot go on. `app.state.draining` is the caller's to set."""
    log = logger("services.ingest")
    registry = metrics_registry()
    metrics = metrics_in(registry)
    known = Registry([*REGISTRY, *settings.domains.events])
    streams = Streams(
        settings.nats_url,
        name="ingest",
        specs=(
            *topology(
                market_max_bytes=settings.market_max_bytes,
                replicas=settings.stream_replicas,
                specs=settings.domains.streams,
            ),
            *fleet(replicas=settings.stream_replicas),
        ),
        needed=dict.fromkeys(contract.stream for contract in known),
        declare=settings.declares,
        monitor_url=settings.nats_monitor_url,
        log=log,
        domain=settings.hub_domain,
    )
    store = JetStreamStore(
        streams,
        metrics,
        window=settings.publish_window,
        ack_seconds=settings.ack_timeout_s,
        deadline_seconds=settings.store_deadline_s,
    )
    events = EventRoutes(
        store,
        verifier,
        known,
        bodies=Bodies(most_bytes=settings.bodies_max_bytes, seconds=settings.body_timeout_s),
        batch_max_bytes=settings.batch_max_bytes,
        refused=metrics.refused,
        durability=streams.durability,
    )
    control = ControlReader(partial(streams.client, 0), verifier.revocations, log)
    health = readiness_routes(
        streams,
        control,
        registry,
        region=settings.region,
        is_draining=lambda: app.state.draining,
        checks={},
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        running = [kept(work, log, on_fatal) for work in (streams.run(), control.run())]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    app: Starlette = Starlette(
        routes=[*events.routes(), *catalogue_routes(settings.domains), *health],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.state.draining = False
    return app
