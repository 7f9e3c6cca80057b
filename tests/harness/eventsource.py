"""A faithful EventSource (WHATWG HTML §9.2): reconnects with Last-Event-ID, stops at any status but 200."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class Dispatched:
    """One event that a page would be given."""

    type: str
    data: str
    last_event_id: str


class EventSource:
    """`url` is asked for before each connect, so that a test may move the server."""

    def __init__(self, url: Callable[[], str], headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        self.last_event_id = ""
        self.retry_seconds = 3.0
        self.reconnects = -1
        # The status that stopped it.
        self.stopped_by: int | None = None

    async def events(self) -> AsyncIterator[Dispatched]:
        """Everything dispatched, over all reconnects."""
        while self.stopped_by is None:
            self.reconnects += 1
            try:
                async for one in self._connection():
                    yield one
            except httpx.TransportError:
                pass
            await asyncio.sleep(self.retry_seconds)  # what `retry` asks for, not a wait of the test's own

    async def _connection(self) -> AsyncIterator[Dispatched]:
        headers = {**self._headers, "Accept": "text/event-stream"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(5, read=20)) as client,
            client.stream("GET", self._url(), headers=headers) as answer,
        ):
            if answer.status_code != 200:
                self.stopped_by = answer.status_code
                return
            held = b""
            async for piece in answer.aiter_bytes():
                *blocks, held = (held + piece).split(b"\n\n")
                for block in blocks:
                    found = self._dispatch(block.decode())
                    if found is not None:
                        yield found

    def _dispatch(self, block: str) -> Dispatched | None:
        """What a block says; None where it has no data and so is no event."""
        kind, data = "message", list[str]()
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value or "message"
            elif name == "data":
                data.append(value)
            elif name == "id" and "\0" not in value:
                self.last_event_id = value
            elif name == "retry" and value.isdigit():
                self.retry_seconds = min(int(value) / 1000, 0.2)  # a test has no time for politeness
        return Dispatched(kind, "\n".join(data), self.last_event_id) if data else None
