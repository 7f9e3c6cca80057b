"""What one client saw over all its connections: each event once, in order, none missing; and constant publishing."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats.errors
import nats.js.errors
import websockets

from tests.harness.events import event
from tests.harness.eventsource import EventSource
from tests.harness.gateway import Gateway
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import until


class Witness:
    """Subscribes to `buyer:<buyer>` for ever; resumes from the last cursor after each close."""

    def __init__(self, buyer: str) -> None:
        self.buyer = buyer
        self.seen: list[str] = []
        self.gaps: list[Any] = []
        self.live = False
        self.connects = 0

    async def over_websocket(self, gateway: Callable[[], Gateway]) -> None:
        """As a WebSocket client that resumes."""
        channel, cursor = f"buyer:{self.buyer}", ""
        while True:
            with contextlib.suppress(OSError, websockets.WebSocketException):
                async with gateway().websocket(self.buyer) as socket:
                    self.connects += 1
                    if cursor:
                        await socket.send(op="resume", channels={channel: cursor})
                    else:
                        await socket.send(op="subscribe", channel=channel)
                    while True:
                        message = await socket.read(60)
                        self.live = self.live or message["op"] == "live"
                        if message["op"] == "event":
                            self.seen.append(message["event"]["id"])
                        elif message["op"] in ("gap", "error"):
                            self.gaps.append(message)
                        cursor = message.get("cursor", cursor)
            self.live = False
            await asyncio.sleep(0.05)  # a client's back-off

    async def over_sse(self, gateway: Callable[[], Gateway]) -> None:
        """As an EventSource."""
        source = EventSource(
            lambda: f"{gateway().url}/v1/events?channel=buyer:{self.buyer}", bearer(self.buyer, "buyer")
        )
        async for one in source.events():
            self.connects = source.reconnects + 1
            self.live = self.live or one.type == "live"
            if one.type in ("gap", "problem", "end"):
                self.gaps.append(one)
            elif one.type.isupper():
                self.seen.append(json.loads(one.data)["id"])

    async def saw(self, wanted: list[str], seconds: float = 20) -> None:
        """Wait for the last, then compare all."""
        await until(lambda: len(self.seen) >= len(wanted), seconds=seconds, what=f"{len(wanted)} events are seen")
        assert self.seen == wanted
        assert not self.gaps


@contextlib.asynccontextmanager
async def witnesses(buyer: str, gateway: Callable[[], Gateway]) -> AsyncIterator[tuple[Witness, Witness]]:
    """One over WebSocket, one over SSE; both live."""
    first, second = Witness(buyer), Witness(buyer)
    tasks = [
        asyncio.create_task(first.over_websocket(gateway)),
        asyncio.create_task(second.over_sse(gateway)),
    ]
    try:
        await until(lambda: first.live and second.live, what="both clients are live")
        yield first, second
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Stress:
    """Stores events of one buyer for as long as the block lasts; `acknowledged` holds their ids in order."""

    def __init__(self, market: Marketplace, buyer: str, rate: float | None) -> None:
        self._market = market
        self._rate = rate
        self._buyer = buyer
        self.acknowledged: list[str] = []
        self._stopping = False
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._stopping:
            if self._rate is not None:
                due = max(due + 1 / self._rate, loop.time() - 1)  # what was held up is made up for, a second of it
                await asyncio.sleep(max(0.0, due - loop.time()))
            document = event("ORDER_CREATED", buyer=self._buyer)
            while True:
                with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, OSError):
                    await self._market.publish(document, seconds=1)
                    break
                await asyncio.sleep(0.05)  # a publisher's back-off; the same event goes again
            self.acknowledged.append(document["id"])

    async def more(self, number: int, seconds: float = 20) -> None:
        """Wait until so many more were acknowledged."""
        goal = len(self.acknowledged) + number
        await until(lambda: len(self.acknowledged) >= goal, seconds=seconds, what=f"{number} more are stored")

    async def stop(self) -> None:
        """Stop once what is under way is acknowledged."""
        self._stopping = True
        if self.task is not None:
            await asyncio.wait([self.task], timeout=15)


@contextlib.asynccontextmanager
async def stress(market: Marketplace, buyer: str, *, rate: float | None = None) -> AsyncIterator[Stress]:
    """Publishing all the while, one after another; so many a second, or as fast as that goes."""
    found = Stress(market, buyer, rate)
    task = found.task = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        await found.stop()
        task.cancel()
