"""The relay as a process: started on a socket that the test holds, asked over HTTP, ended."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from services.chassis.server import address, listen
from services.local.embedded import EmbeddedNats
from tests.harness.waiting import until

DEADLINE_SECONDS = 20.0
MIB = 1024**2


def environment(nats: EmbeddedNats, **differing: str) -> dict[str, str]:
    """Settings of a relay at that server, and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("A2A_")}
    settings = {"NATS_URL": nats.url, "MARKET_MAX_BYTES": str(64 * MIB), "RELAY_INTERVAL_S": "0.1", **differing}
    return kept | {f"A2A_{name}": value for name, value in settings.items()}


async def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.relay",
        *arguments,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Relay:
    """A relay under test, on a socket that the test holds."""

    def __init__(self) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.url = address(self.listener)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, environ: dict[str, str], *arguments: str) -> None:
        number = self.listener.fileno()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.relay",
            *arguments,
            env={**environ, "A2A_HTTP_FD": str(number)},
            pass_fds=(number,),
            stderr=asyncio.subprocess.PIPE,
        )

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
            return await client.get(self.url + path)

    async def readiness(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get("/readyz")).json()
        return found

    async def until_ready(self, *, ready: bool = True) -> dict[str, Any]:
        async def is_so() -> bool:
            return bool((await self.readiness())["ready"]) is ready

        await eventually(is_so)
        return await self.readiness()

    async def answers(self) -> None:
        """Wait until it has looked at its site once."""

        async def has_looked() -> bool:
            told = str((await self.readiness())["failing"])
            return "have not been read yet" not in told and "could not be read" not in told

        await eventually(has_looked)

    async def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        await self.ended()

    async def end(self) -> tuple[int, str]:
        """Ask it to end; exit code and what it logged."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        assert self.process is not None
        _, err = await asyncio.wait_for(self.process.communicate(), DEADLINE_SECONDS)
        assert self.process.returncode is not None
        return self.process.returncode, err.decode()


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    await until(condition, seconds=DEADLINE_SECONDS)
