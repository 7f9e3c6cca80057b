"""A site of real processes that know the shipment domain: NATS, relay, ingest, gateways."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from services.local.embedded import EmbeddedNats, free_port
from tests.harness.gateway import Gateway
from tests.harness.tokens import SECRET
from tests.harness.waiting import until

ROOT = Path(__file__).resolve().parents[3]
DOMAIN = "tests.domains.shipment"
_BYTES = 64 * 1024**2


def environment(nats_url: str, **more: str) -> dict[str, str]:
    """What every service of the site is given; the relay alone makes the streams."""
    return {
        **os.environ,
        "A2A_NATS_URL": nats_url,
        "A2A_JWT_HS256_SECRET": SECRET,
        "A2A_MARKET_MAX_BYTES": str(_BYTES),
        "A2A_DECLARE": "false",
        "A2A_DOMAINS": DOMAIN,
        **more,
    }


@contextlib.asynccontextmanager
async def running(service: str, nats_url: str, **more: str) -> AsyncIterator[str]:
    """A ready service in a process of its own; its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", f"services.{service}"],
        env=environment(nats_url, A2A_HTTP_PORT=str(port), **more),
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                assert process.poll() is None, f"{service} has ended"
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, seconds=20, what=f"{service} is ready")
        yield url
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 15)


class Site:
    """Where its services are."""

    def __init__(self, nats: EmbeddedNats, ingest: str, gateway: str) -> None:
        self.nats_url = nats.url
        self.ingest = ingest
        self.gateway = Gateway(gateway)


@contextlib.asynccontextmanager
async def site(nats: EmbeddedNats) -> AsyncIterator[Site]:
    """The relay makes the streams; the others find them."""
    async with (
        running("relay", nats.url),
        running("ingest", nats.url) as ingest,
        running("gateway", nats.url) as gateway,
    ):
        yield Site(nats, ingest, gateway)
