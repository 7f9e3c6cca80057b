"""A publisher in this process, or as a process of its own, as a client meets it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from services.chassis.launch import verifier_of
from services.chassis.publisher import Define, build
from services.chassis.server import address, listen
from services.chassis.settings import PublisherSettings
from tests.harness.asgi import serving
from tests.harness.events import fresh
from tests.harness.tokens import SECRET, bearer
from tests.harness.waiting import until

ROOT = Path(__file__).parents[2]
MARKET_BYTES = 256 * 1024**2


class Caller:
    """Speaks to one service as whoever a test says."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(
        self, path: str, sub: str, role: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """One command, under a key of its own unless one is given."""
        sent = {**bearer(sub, role), "Idempotency-Key": key or fresh("key"), **headers}
        return await self.http.post(path, json=body if body is not None else {}, headers=sent)

    async def get(self, path: str, sub: str, role: str) -> httpx.Response:
        """One query."""
        return await self.http.get(path, headers=bearer(sub, role))

    async def readiness(self) -> Any:
        """What `/readyz` says."""
        return (await self.http.get("/readyz")).json()

    async def ready(self, seconds: float = 10.0) -> None:
        """Wait until the service is ready."""

        async def is_ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return bool((await self.readiness())["ready"])
            return False

        await until(is_ready, seconds=seconds, what="the service is ready")

    async def counted(self, name: str) -> float:
        """The sum of one metric's samples, over its labels."""
        lines = (await self.http.get("/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)


@contextlib.asynccontextmanager
async def publisher(
    name: str, define: Define[Any], kind: type[PublisherSettings], nats_url: str, **settings: Any
) -> AsyncIterator[Caller]:
    """The service in this process, ready."""
    found = kind(**{"nats_url": nats_url, "jwt_hs256_secret": SECRET, "market_max_bytes": MARKET_BYTES, **settings})
    fatal: list[str] = []
    app = build(name, "A test.", define, found, verifier_of(found), fatal.append)
    async with serving(app, graceful_seconds=5) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        caller = Caller(http)
        await caller.ready()
        yield caller
    assert not fatal


class Process:
    """A service as a process, which a test may kill and start again at the same address."""

    def __init__(self, name: str, nats_url: str, **settings: str) -> None:
        self._name = name
        self._settings = {
            "A2A_NATS_URL": nats_url,
            "A2A_JWT_HS256_SECRET": SECRET,
            "A2A_MARKET_MAX_BYTES": str(MARKET_BYTES),
            **settings,
        }
        # Held here, so that the address outlives the process.
        self._listener = listen("127.0.0.1", 0)
        self.url = address(self._listener)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
        """Start it, not awaited to be ready."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("A2A_")}
        descriptor = self._listener.fileno()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"services.{self._name}", *arguments,
            env={**kept, "PYTHONPATH": str(ROOT), **self._settings, "A2A_HTTP_FD": str(descriptor), **settings},
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
        )  # fmt: skip
        return self.process

    async def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        if self.process is not None:
            await self.process.wait()

    async def terminate(self) -> int:
        """End it in order; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 10)

    async def close(self) -> None:
        """Kill what runs, and give the address back."""
        await self.kill()
        self._listener.close()


@contextlib.asynccontextmanager
async def process(name: str, nats_url: str, **settings: str) -> AsyncIterator[tuple[Process, Caller]]:
    """A service as a process, ready."""
    found = Process(name, nats_url, **settings)
    try:
        await found.start()
        async with httpx.AsyncClient(base_url=found.url, timeout=30) as http:
            caller = Caller(http)
            await caller.ready(20)
            yield found, caller
    finally:
        await found.close()
