"""The HTTP/1.1 protocol under each service: uvicorn's, with what a client may make it hold bounded.

uvicorn with httptools takes a head of any size and waits for its end for ever (docs/adr/0012). Here a
head has at most 32 KiB and 100 headers, is there within 10 s, and a refusal is problem+json before the
connection closes. Trailers are dropped: uvicorn would append them to the head that was already judged.
Never answers in the middle of another response.
"""

import asyncio
import json
import socket
from enum import Enum
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

LARGEST_HEAD_BYTES = 32 * 1024
MOST_HEADERS = 100
# How long a refused client may go on sending, so that the answer is not lost to a reset.
_LINGER_SECONDS = 1.0
# What a header costs on the wire beside its name and value: ": " and the line break.
_HEADER_OVERHEAD = 4


class Refusal(Enum):
    """Why a request is refused before any application sees it: status, code, message."""

    MALFORMED = (400, "invalid_http", "The request is not valid HTTP/1.1.")
    TOO_SLOW = (408, "head_too_slow", "The request's head took too long to arrive.")
    TOO_LARGE = (431, "head_too_large", f"A head has at most {LARGEST_HEAD_BYTES} bytes and {MOST_HEADERS} headers.")

    def answer(self) -> bytes:
        """The whole response: problem+json (RFC 9457), and the connection closes."""
        status, code, message = self.value
        problem = {
            "type": f"urn:a2a:problem:{code}",
            "title": message,
            "status": status,
            "detail": message,
            "code": code,
            "message": message,
            "retryable": False,
        }
        content = json.dumps(problem).encode()
        return b"%bcontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
            STATUS_LINE[status],
            len(content),
            content,
        )


class _TooLarge(Exception):
    """Raised inside a parser callback: ends the parsing, and uvicorn then asks for the 400 answer."""


def _addresses(transport: asyncio.Transport) -> tuple[Any, Any]:
    """Our end and the client, if it is still there; asked itself, uvloop would keep them, 300 bytes, for good."""
    asked = socket.SocketType(fileno=transport.get_extra_info("socket").fileno())
    try:
        return asked.getsockname()[:2], asked.getpeername()[:2]
    except OSError:
        return None, None
    finally:
        asked.detach()  # the transport closes it


class BoundedHttp(HttpToolsProtocol):
    """One connection. A subclass may take the transport over; this class then does nothing more with it."""

    # Each wait for a head: from its first byte, for the connection's first head from the connect.
    head_seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Runs while a head is awaited; after a refusal: until the connection is closed for good.
        self._head_timer: asyncio.TimerHandle | None = None
        # Whether a head has begun and is not complete.
        self._in_head = False
        # Bytes and number of what the present request has told of its head and trailers.
        self._head_bytes = 0
        self._header_count = 0
        # Bytes of the reads since which the parser told nothing: what it may be holding back.
        self._silent_bytes = 0
        # Set once a request was refused: whatever else arrives is dropped.
        self._refused = False
        self._refusal = Refusal.MALFORMED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """In place of uvicorn's, which has the transport keep its addresses."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server, self.client = _addresses(transport)
        self.scheme = "http"  # TLS ends in front of us
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_idle = self.timeout_keep_alive_task is not None
        self._silent_bytes += len(data)
        super().data_received(data)
        if not self._silent_bytes:
            return
        if self._silent_bytes > LARGEST_HEAD_BYTES:
            self._refuse(Refusal.TOO_LARGE)
        elif was_idle:
            self._await_head()  # line breaks between requests, which stopped uvicorn's keep-alive timer

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._header_count = self._silent_bytes = 0
        self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._silent_bytes = 0
        self._head_bytes += len(url)
        if self._head_bytes > LARGEST_HEAD_BYTES:
            self._too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._silent_bytes = 0
        self._head_bytes += len(name) + len(value) + _HEADER_OVERHEAD
        if self._head_bytes > LARGEST_HEAD_BYTES or self._header_count > MOST_HEADERS:
            self._too_large()
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._silent_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head:  # the next head began behind this request: its time begins now
            self._stop_timer()
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Where uvicorn goes with a request that does not parse; `msg` tells nothing that the refusal does not."""
        self._refuse(self._refusal)

    def _too_large(self) -> None:
        self._refusal = Refusal.TOO_LARGE
        raise _TooLarge

    def _request_under_way(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares it as never None
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # a subclass took the transport over while part of a next request was here
        if self._request_under_way():
            self._await_head()  # reading may be paused for the sake of an earlier request: not the client's fault
        elif self._in_head:
            self._refuse(Refusal.TOO_SLOW)
        else:
            self.transport.close()  # it never asked for anything

    def _refuse(self, refusal: Refusal) -> None:
        self._refused = True
        self._silent_bytes = 0
        self._stop_timer()
        if self._request_under_way():
            cycle = self.cycle
            if not cycle.more_body:
                cycle.keep_alive = False  # a later request is the wrong one: what is under way is finished, then closed
                return
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
            cycle.disconnected = True  # the answer is ours: the application hears of a client that left
            cycle.message_event.set()
        self.transport.write(refusal.answer())
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._head_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)
