"""One client, over WebSocket or SSE, with the same few verbs; every wait has a deadline."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import httpx
from httpx_sse import EventSource, ServerSentEvent
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

WAIT_SECONDS = 10.0

Event = dict[str, Any]


class Refused(Exception):
    """The gateway refused; bears the code on the wire, and the close code or HTTP status."""

    def __init__(self, code: str, number: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.number = number


class Watcher(Protocol):
    """A client that watches one channel."""

    # The cursor of the last event, else of where delivery began.
    cursor: str
    # Gaps that were told, by reason.
    gaps: list[str]

    def next_event(self) -> Event:
        """The next event; raises Refused or TimeoutError."""

    def until_live(self) -> list[Event]:
        """The events that are replayed before the channel is live."""

    def close(self) -> None:
        """Hang up."""


class WebSocketWatcher:
    """Over WebSocket."""

    def __init__(self, gateway: str, token: str | None, channel: str, start: Mapping[str, Any]) -> None:
        """Connect and subscribe; `start` holds `cursor`, `since` or `last`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = gateway.replace("http://", "ws://") + "/v1/ws"
        self._socket: ClientConnection = connect(url, additional_headers=headers, open_timeout=WAIT_SECONDS)
        self.gaps: list[str] = []
        self._live = False
        try:
            self._expect("welcome")
            if list(start) == ["cursor"]:
                self._send({"op": "resume", "id": 1, "channels": {channel: start["cursor"]}})
            else:
                self._send({"op": "subscribe", "id": 1, "channel": channel, **start})
            self.cursor: str = self._expect("subscribed")["cursor"]
        except BaseException:
            self._socket.close()
            raise

    def next_event(self) -> Event:
        return self._take(self._expect("event"))

    def until_live(self) -> list[Event]:
        found = []
        while (message := self._expect("event", "live"))["op"] == "event":
            found.append(self._take(message))
        return found

    def close(self) -> None:
        self._socket.close()

    def _take(self, message: dict[str, Any]) -> Event:
        self.cursor = message["cursor"]
        event: Event = message["event"]
        return event

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send(json.dumps(message))

    def _expect(self, *ops: str) -> dict[str, Any]:
        while True:
            message = self._receive()
            if message["op"] in ops:
                return message
            if message["op"] == "error":
                raise Refused(message["error"]["code"], self._close_code())
            if message["op"] == "gap":
                self.gaps.append(message["reason"])

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=WAIT_SECONDS))
        return message

    def _close_code(self) -> int | None:
        """The code with which the gateway closes after an error; None where it does not."""
        try:
            self._socket.recv(timeout=0.2)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
        except TimeoutError:
            return None
        return None


class SseWatcher:
    """Over Server-Sent Events."""

    def __init__(self, gateway: str, token: str | None, channel: str, start: Mapping[str, Any]) -> None:
        """Connect; a `cursor` in `start` goes as Last-Event-ID, as a browser sends it."""
        self._open = ExitStack()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        parameters = {"channel": channel, **start}
        cursor = parameters.get("cursor")
        if cursor is not None and cursor != "earliest":
            headers["Last-Event-ID"] = parameters.pop("cursor")
        client = self._open.enter_context(httpx.Client(base_url=gateway, timeout=WAIT_SECONDS))
        response = self._open.enter_context(client.stream("GET", "/v1/events", params=parameters, headers=headers))
        if response.status_code != httpx.codes.OK:
            response.read()
            self._open.close()
            raise Refused(response.json()["code"], response.status_code)
        self._stream: Iterator[ServerSentEvent] = EventSource(response).iter_sse()
        self.cursor = cursor or ""
        self.gaps: list[str] = []

    def next_event(self) -> Event:
        block = self._expect()
        event: Event = block.json()
        return event

    def until_live(self) -> list[Event]:
        found = []
        while (block := self._expect("live")).event != "live":
            found.append(block.json())
        return found

    def close(self) -> None:
        self._open.close()

    def _expect(self, *controls: str) -> ServerSentEvent:
        """The next block that is an event, or one of these control events."""
        for block in self._stream:
            self.cursor = block.id or self.cursor
            if block.event == "problem":
                raise Refused(block.json()["code"], httpx.codes.OK)
            if block.event == "gap":
                self.gaps.append(block.json()["reason"])
            if block.event in controls or block.event.isupper():
                return block
        raise EOFError("the stream ended")


KINDS: dict[str, type[WebSocketWatcher] | type[SseWatcher]] = {"WebSocket": WebSocketWatcher, "SSE": SseWatcher}
