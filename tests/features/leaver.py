"""A gateway beside the system's own that is going to leave, and one client of it who comes back elsewhere."""

import asyncio
import json
import time
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.harness.gateway import GatewayProcess
from tests.harness.tokens import bearer

WAIT_SECONDS = 10.0


class Leaver:
    """A gateway in a process of its own."""

    def __init__(self, nats_url: str, *, spread_seconds: int) -> None:
        """Start it, and wait until it is ready."""
        settings = {"A2A_DRAIN_GRACE_S": "0.5", "A2A_DRAIN_SPREAD_S": str(spread_seconds)}
        self._process = GatewayProcess(nats_url, **settings)
        self.url = asyncio.run(self._process.start()).url

    def leave(self) -> None:
        """As an orchestrator says it."""
        assert self._process.process is not None
        self._process.process.terminate()

    def has_become_unready(self) -> bool:
        """What a balancer finds out soon: a signal takes a moment, and a second one before it would be the same."""
        patience = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < patience:
            if httpx.get(f"{self.url}/readyz", timeout=WAIT_SECONDS).status_code == 503:
                return True
            time.sleep(0.02)
        return False

    def exit_code(self) -> int:
        """Once it has ended."""
        assert self._process.process is not None
        return self._process.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """At the scenario's end, if it is still there."""
        self._process.kill()


class Returner:
    """A client that keeps its cursor, and comes back with it."""

    def __init__(self, sub: str, channel: str) -> None:
        self._sub = sub
        self._channel = channel
        self._cursor: str | None = None
        # Everything it was told, where it is connected now; and the events of all its connections.
        self.told: list[dict[str, Any]] = []
        self.events: list[str] = []
        self._socket: ClientConnection | None = None

    def come_to(self, url: str) -> None:
        """Connect, and go on from where it was."""
        address = url.replace("http", "ws", 1) + "/v1/ws"
        self._socket = connect(address, additional_headers=bearer(self._sub, "buyer"), open_timeout=WAIT_SECONDS)
        self.told.clear()
        start = {} if self._cursor is None else {"cursor": self._cursor}
        self._socket.send(json.dumps({"op": "subscribe", "channel": self._channel, **start}))
        self.until("live")

    def until(self, op: str) -> dict[str, Any]:
        """Read on to the first message of this kind."""
        assert self._socket is not None
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv(WAIT_SECONDS))
            self.told.append(message)
            self._cursor = message.get("cursor", self._cursor)
            if message["op"] == "event":
                self.events.append(message["event"]["id"])
            if message["op"] == op:
                return message

    def close_code(self) -> int | None:
        """Read to the end; the code that it was closed with."""
        assert self._socket is not None
        try:
            while True:
                self.until("event")
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
