"""Clients of presence: each keeps the members as it was told them, and remembers every message that told it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.harness.gateway import Gateway, Socket
from tests.harness.waiting import until


class Attendee:
    """One client on one WebSocket, subscribed to one channel with presence."""

    def __init__(self, socket: Socket, sub: str, channel: str) -> None:
        self.socket = socket
        self.sub = sub
        self.channel = channel
        # Whom it knows to be there, with their data; None before it was told.
        self.members: dict[str, Any] | None = None
        # What it was told: "join", "leave" or "update", and of whom.
        self.told: list[tuple[str, str]] = []
        self.signals: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        # Bytes of each message of presence after the list.
        self.sizes: list[int] = []
        self._is_partial = False

    async def enter(self, data: Any = None) -> None:
        await self.socket.send(op="presence", channel=self.channel, action="enter", data=data)

    async def leave(self) -> None:
        await self.socket.send(op="presence", channel=self.channel, action="leave")

    async def signal(self, kind: str = "typing", data: Any = None) -> None:
        await self.socket.send(op="signal", channel=self.channel, kind=kind, data=data)

    async def sees(self, *subs: str, seconds: float = 10) -> None:
        """Wait until it knows exactly these to be there."""
        await until(
            lambda: self.members is not None and set(self.members) == set(subs),
            seconds=seconds,
            what=f"{self.sub} sees {subs}, not {self.members and list(self.members)[:9]}",
        )

    async def hears(self) -> None:
        """Wait for a signal."""
        await until(lambda: self.signals, what=f"{self.sub} gets a signal")

    async def run(self) -> None:
        """Listen until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take(await self.socket.read(3600))

    def _take(self, message: dict[str, Any]) -> None:
        if message["op"] == "signal":
            self.signals.append(message)
        elif message["op"] == "error":
            self.errors.append(message)
        elif message["op"] == "presence" and "members" in message:
            known = self.members if self._is_partial and self.members is not None else {}
            self.members = {**known, **{one["sub"]: one["data"] for one in message["members"]}}
            self._is_partial = message.get("more", False)
        elif message["op"] == "presence":
            self._change(message)

    def _change(self, message: dict[str, Any]) -> None:
        for name, what in (("joins", "join"), ("updates", "update"), ("leaves", "leave")):
            for one in message.get(name, ()):
                assert self.members is not None
                self.told.append((what, one["sub"]))
                if what == "leave":
                    del self.members[one["sub"]]
                else:
                    self.members[one["sub"]] = one["data"]


@contextlib.asynccontextmanager
async def attending(gateway: Gateway, sub: str, role: str, channel: str, **more: Any) -> AsyncIterator[Attendee]:
    """A client that was told who is there."""
    async with gateway.websocket(sub, role) as socket:
        found = Attendee(socket, sub, channel)
        listening = asyncio.create_task(found.run())
        try:
            await socket.send(op="subscribe", channel=channel, **{"presence": True, **more})
            if more.get("presence", True):
                await until(lambda: found.members is not None, what=f"{sub} is told who is there")
            yield found
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def settled(*people: Attendee, seconds: float = 1.0) -> None:
    """Let everything under way arrive: what is not to come cannot be awaited."""
    await asyncio.sleep(seconds)
    for person in people:
        assert not person.errors, person.errors
