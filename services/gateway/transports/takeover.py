"""Taking a connection over from uvicorn (docs/adr/0005).

Starlette routes and the endpoint checks; then a slim protocol takes the transport and the ASGI
task ends, so that an idle client costs neither. Everything here that touches uvicorn's private
parts stands in this file; uvicorn is pinned, and each case has a test over a real socket.
"""

import asyncio
import base64
import hashlib
import sys
import urllib.parse
from collections.abc import Callable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from services.chassis.http import BoundedHttp
from services.chassis.telemetry import logger
from services.gateway.transports.line import Line

EXTENSION = "a2a.takeover"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_log = logger(__name__)

Message = MutableMapping[str, Any]


class SlimProtocol(asyncio.Protocol):
    """What takes a transport over; uvicorn's shutdown waits for it as for its own."""

    __slots__ = ("home",)

    # uvicorn's set of connections, in which this one stands until it is lost.
    home: "set[Any]"

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: uvicorn need not wait for it."""
        self.home.discard(self)

    def shutdown(self) -> None:
        """Uvicorn stops."""


MakeProtocol = Callable[[asyncio.Transport], SlimProtocol]
# The protocol writes the head that it is given, and nothing before it.
MakeUpgraded = Callable[[asyncio.Transport, bytes], SlimProtocol]


# The line of each server, whose connections share it.
_lines: WeakKeyDictionary[ServerState, Line] = WeakKeyDictionary()


class GatewayHttp(BoundedHttp):
    """HTTP/1.1 as uvicorn speaks it, until an endpoint takes the transport."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Whether the client has said nothing yet, and whether what it said first waits in the line.
        self._is_new = True
        self.waits = False
        # Whether uvicorn stops.
        self._stops = False
        # The read that is being parsed: what follows an upgrade request in it belongs to the WebSocket.
        self._reading = b""
        # A WebSocket's handshake that is not answered yet.
        self.upgrade: Upgrade | None = None
        # Told when the client has left, or closed its side, while a request is under way.
        self.on_half_close: Callable[[], None] | None = None
        self.is_half_closed = False

    def data_received(self, data: bytes) -> None:
        if self._is_new:
            self._is_new = False
            self._line().join(self, data)
        elif self.upgrade is not None:
            self.upgrade.keep(data)
        else:
            self._reading = data
            super().data_received(data)
            self._reading = b""
            if self._stops:
                self.shutdown()

    def _line(self) -> Line:
        line = _lines.get(self.server_state)
        if line is None:
            line = _lines[self.server_state] = Line(self.loop.call_soon)
        return line

    def _head_is_late(self) -> None:
        if self.waits:
            self._head_timer = None
            self._await_head()  # it is we who are late
        else:
            super()._head_is_late()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.upgrade = None  # else each holds the other until the collector comes
        if self.on_half_close is not None:
            self.on_half_close()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own signature; uvicorn's lets it close at once
        """A client may close its side once it has asked; it still gets its answer."""
        if self.upgrade is not None:
            self.upgrade.is_half_closed = True
            return True
        if not self._request_under_way() or self.cycle.more_body:
            return None
        self.is_half_closed = True
        self.cycle.keep_alive = False
        if self.on_half_close is not None:
            self.on_half_close()
        return True

    def shutdown(self) -> None:
        """Uvicorn stops: who has asked and was not heard or answered yet is, and ends then."""
        self._stops = True
        if not self.waits and self.upgrade is None:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.scope["extensions"] = {EXTENSION: Response(self, cycle)}  # type: ignore[dict-item]  # ours, not of ASGI

        async def run(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            finally:
                # Else connection, cycle and scope hold each other, until the collector comes, which is seldom.
                scope.pop("extensions", None)

        super()._start_asgi_task(cycle, run)

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def handle_websocket_upgrade(self) -> None:
        """Called inside uvicorn's `except HttpParserUpgrade`, whose argument is where the request ended."""
        raised = sys.exc_info()[1]
        rest = self._reading[raised.args[0] :] if isinstance(raised, httptools.HttpParserUpgrade) else b""
        if self._request_under_way():
            self.transport.close()  # an upgrade pipelined behind a request that is not answered yet
            return
        self.upgrade = Upgrade(self, rest)
        self.upgrade.start()

    def hand_over(self, protocol: SlimProtocol) -> None:
        """`protocol` is the transport's from here on; uvicorn's shutdown finds it in this one's place."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        self.transport.set_protocol(protocol)
        self.connections.discard(self)
        self.connections.add(protocol)  # type: ignore[arg-type]  # any protocol with `shutdown()` will do
        protocol.home = self.connections
        self.pipeline.clear()
        if self._stops:
            self.loop.call_soon(protocol.shutdown)


class Response:
    """An HTTP response whose body is written straight to the transport."""

    def __init__(self, http: GatewayHttp, cycle: RequestResponseCycle) -> None:
        self._http = http
        self._cycle = cycle

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection, whatever any header says."""
        return self._http.client[0] if self._http.client else None

    @property
    def is_half_closed(self) -> bool:
        """Whether the client has closed its side: it gets an answer, and no stream."""
        return self._http.is_half_closed

    def abort(self) -> None:
        """Cut the client off: it does not take its answer."""
        self._cycle.disconnected = True
        self._http.transport.abort()

    def when_half_closed(self, call: Callable[[], None] | None) -> None:
        """`call` once the client closes its side, at once if it has; None to be told no more."""
        self._http.on_half_close = call
        if call is not None and self._http.is_half_closed:
            call()

    async def take_over(self, headers: list[tuple[bytes, bytes]], make: MakeProtocol) -> bool:
        """Send a 200 head whose body is delimited by the connection's end, and give the transport to `make`'s protocol.

        Whether that was done; not where the client has left.
        """
        cycle, http = self._cycle, self._http
        cycle.chunked_encoding = False
        cycle.keep_alive = False
        await cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
        if cycle.disconnected or http.transport.is_closing():
            return False
        http.hand_over(make(http.transport))
        cycle.disconnected = True  # so that uvicorn does not miss a body
        http.transport.resume_reading()  # paused behind a pipelined request or a long body, no end would be seen
        http.parser = None  # type: ignore[assignment]  # as uvicorn does itself when a connection is lost
        return True


class Upgrade:
    """A WebSocket handshake, answered from the headers that httptools has parsed already."""

    def __init__(self, http: GatewayHttp, rest: bytes) -> None:
        self._http = http
        # What the client sent behind its request, without waiting.
        self._rest = rest
        # Whether the client closed its side meanwhile.
        self.is_half_closed = False
        self._answered = False

    @property
    def peer(self) -> str | None:
        """As `Response.peer`."""
        return self._http.client[0] if self._http.client else None

    def keep(self, data: bytes) -> None:
        """What comes before the answer is the protocol's that is made then; more is not read until it is."""
        self._rest += data
        self._http.transport.pause_reading()

    def start(self) -> None:
        """Check the handshake (RFC 6455 §4.2.1) and route it."""
        http = self._http
        headers = dict(http.scope["headers"])
        self._key = headers.get(b"sec-websocket-key", b"")
        if http.scope["method"] != "GET" or http.scope["http_version"] != "1.1" or len(self._key) != 24:
            return self._deny(400)
        if headers.get(b"sec-websocket-version") != b"13":
            return self._deny(426, [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")])
        task = http.loop.create_task(self._run())
        http.tasks.add(task)
        task.add_done_callback(http.tasks.discard)
        return None

    async def _run(self) -> None:
        http = self._http
        try:
            url = httptools.parse_url(http.url)
        except httptools.HttpParserInvalidURLError:
            return self._deny(400)
        path = url.path or b"/"  # as of "http://gateway.example"
        scope = {
            **http.scope,
            "type": "websocket",
            "scheme": "wss" if http.scheme == "https" else "ws",
            "path": http.root_path + urllib.parse.unquote(path.decode("latin-1")),
            "raw_path": http.root_path.encode() + path,
            "query_string": url.query or b"",
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }
        try:
            await http.app(scope, self._receive, self._send)
        except Exception:  # noqa: BLE001  # whatever went wrong in the endpoint, this client gets its 500
            _log.exception("handshake_failed", path=scope["path"])
        if not self._answered:
            self._deny(500)
        return None

    async def _receive(self) -> Message:
        return {"type": "websocket.connect"}

    async def _send(self, message: Message) -> None:
        """What Starlette says of a handshake that no endpoint accepted."""
        if message["type"] == "websocket.http.response.start":
            self._head = (message["status"], list(message.get("headers", ())))
        elif message["type"] == "websocket.http.response.body":
            self._deny(*self._head, body=message.get("body", b""))
        elif message["type"] == "websocket.close":
            self._deny(404)

    def _deny(self, status: int, headers: list[tuple[bytes, bytes]] | None = None, *, body: bytes = b"") -> None:
        self._answered = True
        kept = [(name, value) for name, value in headers or () if name not in (b"content-length", b"connection")]
        lines = [*kept, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        self._http.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self._http.transport.close()

    def accept(self, make: MakeUpgraded) -> None:
        """Give the transport to `make`'s protocol, which answers 101; nothing happens where the client has left."""
        http = self._http
        self._answered = True
        if http.transport.is_closing():
            return
        token = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        head = (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\n\r\n" % token
        )
        protocol = make(http.transport, head)
        http.hand_over(protocol)
        http.parser = http.upgrade = None  # type: ignore[assignment]  # as above
        if self._rest and not http.transport.is_closing():
            http.transport.resume_reading()
            protocol.data_received(self._rest)
        if self.is_half_closed:
            http.transport.close()
