"""The ingest service in this process, as a publisher meets it."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from contracts.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE
from services.chassis.launch import verifier_of
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.harness.asgi import serving
from tests.harness.tokens import SECRET, bearer
from tests.harness.waiting import until


class Publisher:
    """A client with a good token."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def one(self, event: dict[str, Any]) -> httpx.Response:
        """Publish one event."""
        return await self.http.post("/v1/events", json=event, headers={"Content-Type": CONTENT_TYPE})

    async def batch(self, events: list[Any]) -> httpx.Response:
        """Publish a batch."""
        return await self.http.post("/v1/events", json=events, headers={"Content-Type": BATCH_CONTENT_TYPE})

    async def readiness(self) -> Any:
        """What `/readyz` says."""
        return (await self.http.get("/readyz")).json()

    async def ready(self, *, seconds: float = 10.0) -> None:
        """Wait until the service is ready."""

        async def is_ready() -> bool:
            return bool((await self.readiness())["ready"])

        await until(is_ready, seconds=seconds, what="ingest is ready")

    async def counted(self, name: str) -> float:
        """The sum of one metric's samples, over its labels."""
        lines = (await self.http.get("/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)


@contextlib.asynccontextmanager
async def publishing(nats_url: str, *, fatal: list[str] | None = None, **settings: Any) -> AsyncIterator[Publisher]:
    """The service over the NATS at `nats_url`, not awaited to be ready; `fatal` takes what it would end with."""
    found = IngestSettings(
        **{"nats_url": nats_url, "jwt_hs256_secret": SECRET, "market_max_bytes": 64 * 1024**2, **settings}
    )
    ends = [] if fatal is None else fatal
    async with (
        serving(build(found, verifier_of(found), ends.append)) as url,
        httpx.AsyncClient(base_url=url, headers=bearer("publisher", "service"), timeout=60) as http,
    ):
        yield Publisher(http)
