"""Ours: nats-server with JetStream and the real gateway, `python -m services.gateway`, every token checked."""

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import nats

from contracts.topology import streams
from services.chassis import jetstream
from services.local.embedded import free_port
from tests.load.natsline import NatsLine
from tests.load.peers.nats import Nats, start_broker
from tests.load.peers.peer import Arguments, Place, Running, Speech, serve
from tests.load.tokens import SECRET, header

SUBJECT = "market.bench.b.n.order.c%d"
CHANNEL = "order:c%d"
MARKET_BYTES = 2 * 1024**3
# One principal holds all connections of a run, where a workload does not say otherwise.
SETTINGS = {
    "A2A_JWT_HS256_SECRET": SECRET,
    "A2A_MARKET_MAX_BYTES": str(MARKET_BYTES),
    "A2A_MAX_CONNECTIONS_PER_PRINCIPAL": "100000",
    "A2A_LOG_LEVEL": "warning",
}
_READY_SECONDS = 20.0

Prepare = Callable[[NatsLine], int]


def websocket_speech(message: Mapping[str, Any] | None = None, *, authorized: bool = True) -> Arguments:
    """Subscribe to the channel, or say `message`."""
    said = json.dumps(message or {"op": "subscribe", "channel": CHANNEL}, separators=(",", ":"))
    return (*_handshake(authorized=authorized), "--send", said)


def _handshake(*, authorized: bool) -> Arguments:
    return ("--path", "/v1/ws", *(("--header", header("bench")) if authorized else ()))


def sse_speech(*, authorized: bool = True) -> Arguments:
    """The channel's event stream."""
    token = ("--header", header("bench")) if authorized else ()
    return ("--mode", "sse", "--path", f"/v1/events?channel={CHANNEL}", *token)


class Gateway:
    """The peer; `settings` are its environment beyond `SETTINGS`."""

    name = "ours"

    def __init__(self, *, authorized: bool = True, prepare: Prepare | None = None, **settings: str) -> None:
        """`prepare` stores events before the gateway starts; without `authorized` the workload brings the tokens."""
        self._settings = {**SETTINGS, **settings}
        self._authorized = authorized
        self._prepare = prepare

    def missing(self) -> str | None:
        """nats-server comes with the requirements."""
        return Nats().missing()

    def start(self, stack: ExitStack, place: Place) -> Running:
        """nats-server, the streams, what the workload prepares, the gateway."""
        broker_port, broker = start_broker(stack, place)
        nats_url = f"nats://127.0.0.1:{broker_port}"
        epoch = asyncio.run(declare(nats_url))
        prepared = 0
        if self._prepare is not None:
            with NatsLine(broker_port) as line:
                prepared = self._prepare(line)
        port = free_port()
        environment = {**self._settings, "A2A_NATS_URL": nats_url, "A2A_HTTP_PORT": str(port)}
        server = serve(stack, place, [sys.executable, "-m", "services.gateway"], "gateway", port, **environment)
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url)

        def behind(count: int) -> Arguments:
            after = prepared
            if self._prepare is None:
                with NatsLine(broker_port) as line:
                    after = line.preload(lambda _: SUBJECT.replace("%d", "0"), count)
            message = {"op": "subscribe", "channel": CHANNEL.replace("%d", "0"), "cursor": f"MARKET.{epoch}.{after}"}
            return (*websocket_speech(message), "--order", "cursor", "--after", str(after))

        speeches = {
            "ws": Speech((*websocket_speech(authorized=self._authorized), "--ready-on", '"op":"live"'), "cursor"),
            "bare": Speech((*_handshake(authorized=self._authorized), "--ready-on", '"op":"welcome"'), "none"),
            "sse": Speech((*sse_speech(authorized=self._authorized), "--ready-on", "event: live"), "id"),
        }
        return Running(
            port,
            f"{nats_url}/{SUBJECT}",
            speeches,
            [broker, server],
            behind,
            url=url,
            nats_port=broker_port,
            prepared=prepared,
            details={"epoch": epoch},
        )


async def declare(nats_url: str) -> str:
    """Make the streams, so that a workload can fill them first; MARKET's epoch."""
    client = await nats.connect(nats_url)
    try:
        return (await jetstream.ensure(client, streams(market_max_bytes=MARKET_BYTES)))["MARKET"].epoch
    finally:
        await client.close()


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def metrics(running: Running) -> dict[str, float]:
    """The gateway's metrics as they are now: sample with its labels -> value."""
    with urllib.request.urlopen(f"{running.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}
