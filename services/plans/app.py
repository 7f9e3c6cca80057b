"""The composition root of plans: settings in, a Starlette app out that is nothing but health; work comes by NATS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from starlette.applications import Starlette
from structlog.stdlib import BoundLogger

from contracts.topology import fleet, stores
from contracts.topology import streams as topology
from services.chassis.auth import TokenVerifier
from services.chassis.control import ControlReader
from services.chassis.launch import OnFatal
from services.chassis.problems import EXCEPTION_HANDLERS
from services.chassis.readiness import readiness_routes
from services.chassis.replay import replay
from services.chassis.storemetrics import store_metrics
from services.chassis.streams import Streams
from services.chassis.tasks import kept
from services.chassis.telemetry import logger, metrics_registry
from services.plans.ledger import open_ledger
from services.plans.loading import load
from services.plans.requests import Requests
from services.plans.settings import PlansSettings
from services.plans.snapshots import PlanDirectory
from services.plans.store import Plans
from services.plans.sweep import Sweep
from services.plans.worker import Bounds, Worker

NAME = "plans"
DESCRIPTION = "Plans: A2A tasks, started and asked for over NATS, executed by an agent, told as events."


def build(settings: PlansSettings, verifier: TokenVerifier, on_fatal: OnFatal) -> Starlette:
    """The service; `on_fatal` is told in one line why it cannot go on, `app.state.leave` is called at SIGTERM."""
    log = logger("services.plans")
    metrics = metrics_registry()
    streams = _streams(settings, log)
    directory = PlanDirectory(log)
    ledger = open_ledger(
        streams,
        directory,
        store_metrics(metrics),
        source=f"urn:a2a:service:{NAME}",
        ack_seconds=settings.ack_timeout_s,
        deadline_seconds=settings.store_deadline_s,
    )
    executor = load(settings.plan_executor)(settings.plan_step_s)
    bounds = Bounds(settings.plans_running, settings.plan_lease_s, settings.plan_cancel_s)
    worker = Worker(streams, ledger, executor, bounds, metrics, log)
    requests = Requests(streams, Plans(ledger, streams), verifier, metrics, log)
    sweep = Sweep(
        streams,
        ledger,
        directory,
        every_seconds=settings.plan_sweep_s,
        idle_seconds=settings.plan_idle_s,
        metrics=metrics,
        log=log,
    )
    control = ControlReader(partial(streams.client, 0), verifier.revocations, log)
    health = readiness_routes(
        streams,
        control,
        metrics,
        region=settings.region,
        is_draining=lambda: app.state.draining,
        checks={"work": worker.failing, "requests": requests.failing},
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        keeper = kept(streams.run(), log, on_fatal)
        # The connection goes last: what the others have in hand is still to be stored.
        others = [kept(one, log, on_fatal) for one in (control.run(), requests.run(), worker.run(), sweep.run())]
        try:
            yield
        finally:
            for tasks in (others, [keeper]):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    app: Starlette = Starlette(routes=list(health), exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan)
    app.state.draining = False

    def leave() -> None:
        app.state.draining = True
        worker.leave()

    app.state.leave = leave
    return app


def _streams(settings: PlansSettings, log: BoundLogger) -> Streams:
    events = topology(
        market_max_bytes=settings.market_max_bytes,
        replicas=settings.stream_replicas,
        specs=settings.domains.streams,
    )
    return Streams(
        settings.nats_url,
        name=NAME,
        specs=(*events, *stores(replicas=settings.stream_replicas), *fleet(replicas=settings.stream_replicas)),
        needed=("PLANS",),
        declare=settings.declare,
        monitor_url=settings.nats_monitor_url,
        log=log,
    )


async def dead_letters(settings: PlansSettings) -> int:
    """List them; the exit code."""
    return await replay(NAME, "list", _streams(settings, logger("services.plans")), ())
