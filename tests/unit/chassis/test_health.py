"""/livez, /readyz and /metrics."""

from collections.abc import Mapping

import httpx
from prometheus_client import Counter
from starlette.applications import Starlette

from services.chassis.health import health_routes
from services.chassis.telemetry import metrics_registry


class Service:
    def __init__(self) -> None:
        self.reason: str | None = None
        self.told: Mapping[str, object] = {"region": "eu"}
        self.registry = metrics_registry()

    async def get(self, path: str) -> httpx.Response:
        checks = {"nats": lambda: self.reason, "always": lambda: None}
        app = Starlette(routes=health_routes(checks, self.registry, lambda: self.told))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path)


async def test_a_live_process_says_so_whatever_fails() -> None:
    service = Service()
    service.reason = "away"
    answer = await service.get("/livez")
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_ready_is_200_with_the_facts() -> None:
    answer = await Service().get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "failing": {}, "region": "eu"}
    assert answer.headers["cache-control"] == "no-store"


async def test_unready_is_503_and_names_what_fails_and_why() -> None:
    service = Service()
    service.reason = "not connected"
    answer = await service.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "failing": {"nats": "not connected"}, "region": "eu"}


async def test_no_fact_overrules_the_verdict() -> None:
    service = Service()
    service.reason, service.told = "away", {"ready": True, "failing": None}
    answer = await service.get("/readyz")
    assert answer.json() == {"ready": False, "failing": {"nats": "away"}}


async def test_metrics_are_in_the_format_of_prometheus() -> None:
    service = Service()
    Counter("a2a_things", "x", registry=service.registry).inc(3)
    answer = await service.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "a2a_things_total 3.0" in answer.text
