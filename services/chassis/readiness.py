"""Readiness: what every service that stores events says of itself in `/readyz`.

Its connection and its streams, whether it knows who is revoked, whether it leaves; a service adds checks of its own.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from starlette.routing import Route

from services.chassis.control import ControlReader
from services.chassis.health import Checks, health_routes
from services.chassis.streams import Streams


def readiness_routes(
    streams: Streams,
    control: ControlReader,
    metrics: CollectorRegistry,
    *,
    region: str,
    is_draining: Callable[[], bool],
    checks: Checks,
) -> list[Route]:
    """The routes of health; `checks` are the service's own."""
    return health_routes(
        {
            "nats": streams.nats_failing,
            "streams": streams.streams_failing,
            "revocations": control.failing,
            **checks,
            "draining": lambda: "the service is shutting down" if is_draining() else None,
        },
        metrics,
        lambda: {
            "region": region,
            "durability": streams.durability(),
            "epochs": streams.epochs(),
            "revocations": control.facts(),
        },
    )
