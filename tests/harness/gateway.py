"""Gateways for tests: one in this process behind real sockets, or one of its own process to kill; and their clients."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import nats
import websockets
from nats.aio.client import Client
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection

from services.chassis.launch import verifier_of
from services.gateway.app import build
from services.gateway.bus.gossip import Gossip
from services.gateway.core.replica import Replica
from services.gateway.settings import GatewaySettings
from services.gateway.transports.takeover import GatewayHttp
from services.local.embedded import free_port
from tests.harness.asgi import serving
from tests.harness.tokens import SECRET, bearer, token
from tests.harness.waiting import until

MARKET_BYTES = 256 * 1024**2


def settings(nats_url: str, **changes: Any) -> GatewaySettings:
    """Settings of a gateway under test."""
    return GatewaySettings(
        nats_url=nats_url,
        jwt_hs256_secret=SECRET,
        market_max_bytes=changes.pop("market_max_bytes", MARKET_BYTES),
        max_connections_per_principal=changes.pop("max_connections_per_principal", 1000),
        **changes,
    )


@dataclass
class Gateway:
    """One running gateway and its URL."""

    url: str
    # The replica behind it, where it runs in this process.
    replica: Replica | None = None
    gossip: Gossip | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        """A client for its plain routes; the caller closes it."""
        return httpx.AsyncClient(base_url=self.url, timeout=15)

    @contextlib.asynccontextmanager
    async def websocket(self, sub: str | None = None, role: str = "buyer", **claims: Any) -> AsyncIterator["Socket"]:
        """A WebSocket of `sub`, its `welcome` read; without `sub` no token is sent."""
        headers = None if sub is None else bearer(sub, role, **claims)
        address = self.url.replace("http", "ws", 1) + "/v1/ws"
        async with websockets.connect(address, additional_headers=headers, max_size=None, max_queue=None) as raw:
            socket = Socket(raw)
            if sub is not None:
                socket.welcome = await socket.read()
            yield socket

    @contextlib.asynccontextmanager
    async def events(
        self, query: str, sub: str = "b1", role: str = "buyer", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["Blocks"]:
        """An SSE stream of `sub` for `/v1/events?<query>`."""
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=15) as client,
            client.stream("GET", f"/v1/events?{query}", headers={**bearer(sub, role), **(headers or {})}) as answer,
        ):
            yield Blocks(answer)


class Socket:
    """A WebSocket client that speaks in dictionaries."""

    def __init__(self, raw: ClientConnection) -> None:
        self.raw = raw
        self.welcome: dict[str, Any] = {}

    async def send(self, **message: Any) -> None:
        await self.raw.send(json.dumps(message))

    async def read(self, seconds: float = 10) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(seconds):
            found: dict[str, Any] = json.loads(await self.raw.recv())
            return found

    async def read_until(self, op: str, seconds: float = 10) -> list[dict[str, Any]]:
        """All messages up to and with the first of `op`."""
        found = [await self.read(seconds)]
        while found[-1]["op"] != op:
            found.append(await self.read(seconds))
        return found

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Send, and read the next message."""
        await self.send(**message)
        return await self.read()

    async def subscribe(self, channel: str, **more: Any) -> list[dict[str, Any]]:
        """Subscribe; everything up to `live`, the `subscribed` first."""
        await self.send(op="subscribe", id=channel, channel=channel, **more)
        return await self.read_until("live")

    async def closed(self, seconds: float = 10) -> int:
        """The close code, once the gateway has closed."""
        async with asyncio.timeout(seconds):
            await self.raw.wait_closed()
        code = self.raw.close_code
        assert code is not None
        return code


class Blocks:
    """An SSE answer, block by block."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._pieces = answer.aiter_bytes()
        self._held = b""

    async def read(self, seconds: float = 10) -> dict[str, str]:
        """The next block's fields, comments under `""`; {} at the stream's end."""
        async with asyncio.timeout(seconds):
            while b"\n\n" not in self._held:
                piece = await anext(self._pieces, b"")
                if not piece:
                    return {}
                self._held += piece
        block, _, self._held = self._held.partition(b"\n\n")
        fields = (line.partition(":") for line in block.decode().split("\n"))
        return {name: value.removeprefix(" ") for name, _, value in fields}

    async def read_until(self, event: str, seconds: float = 10) -> list[dict[str, str]]:
        """All blocks up to and with the first of `event`."""
        found = [await self.read(seconds)]
        while found[-1].get("event") != event:
            assert found[-1], f"the stream ended before {event}: {found[-3:]}"
            found.append(await self.read(seconds))
        return found


@contextlib.asynccontextmanager
async def running_gateway(nats_url: str, **changes: Any) -> AsyncIterator[Gateway]:
    """A ready gateway in this process; `changes` are its settings."""
    chosen = settings(nats_url, **changes)
    fatal: list[str] = []
    app: Starlette = build(chosen, verifier_of(chosen), fatal.append)
    async with serving(app, http=GatewayHttp, graceful_seconds=1) as url:
        gateway = Gateway(url, app.state.replica, app.state.gossip)
        await is_ready(gateway)
        yield gateway
    assert not fatal, fatal


async def is_ready(gateway: Gateway, seconds: float = 60) -> None:
    """Wait until `/readyz` says so; a process that begins on a busy machine takes its time."""
    async with gateway.http as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready, seconds=seconds, what="the gateway is ready")


class GatewayProcess:
    """A gateway in a process of its own, to be killed."""

    def __init__(self, nats_url: str, **environment: str) -> None:
        self.port = free_port()
        self.gateway = Gateway(f"http://127.0.0.1:{self.port}")
        self._environment = {
            "A2A_NATS_URL": nats_url,
            "A2A_HTTP_PORT": str(self.port),
            "A2A_JWT_HS256_SECRET": SECRET,
            "A2A_MARKET_MAX_BYTES": str(MARKET_BYTES),
            "A2A_DRAIN_GRACE_S": "0",
            "A2A_DRAIN_SPREAD_S": "0",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Gateway:
        """Start it and wait until it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"],
            env={**os.environ, **self._environment},
            stderr=subprocess.DEVNULL,
        )
        await is_ready(self.gateway, seconds=60)  # an interpreter starts slowly where many do
        return self.gateway

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(5)
            self.process = None

    async def stop(self, seconds: float = 30) -> int:
        """End it in order; its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = await asyncio.to_thread(self.process.wait, seconds)
        self.process = None
        return code


class Publisher:
    """Stores events straight in JetStream, as a publisher service does."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._js = client.jetstream()

    async def publish(self, document: Mapping[str, Any], *, seconds: float = 10) -> int:
        """Store one event; its sequence."""
        headers = {"Nats-Msg-Id": document["id"]}
        payload = json.dumps(document).encode()
        ack = await self._js.publish(document["subject"], payload, headers=headers, timeout=seconds)
        return ack.seq

    async def publish_all(self, documents: list[dict[str, Any]]) -> list[int]:
        """Store events in order, many at a time; their sequences."""
        found: list[int] = []
        for start in range(0, len(documents), 256):
            found += await asyncio.gather(*map(self.publish, documents[start : start + 256]))
        return found

    async def raw(self, subject: str, payload: bytes) -> int:
        """Store any bytes."""
        return (await self._js.publish(subject, payload, timeout=10)).seq


@contextlib.asynccontextmanager
async def publishing(nats_url: str) -> AsyncIterator[Publisher]:
    """A publisher connected to `nats_url`."""
    client = await nats.connect(nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        yield Publisher(client)
    finally:
        await client.close()


__all__ = ["Blocks", "Gateway", "GatewayProcess", "Publisher", "Socket", "publishing", "running_gateway", "token"]
