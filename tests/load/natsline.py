"""A blocking NATS connection for what a run prepares: many acknowledged publishes, and the stream's bounds.

A raw one, because a preload of 300,000 events should take the server's time, not the client's.
"""

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any, Self

_INBOX = "_INBOX.bench"
_AT_ONCE = 1000
_SECONDS = 30
_SEQUENCE = re.compile(rb'"seq":\s?(\d+)')
EVENT_BYTES = 300


class PreloadFailed(Exception):
    """JetStream refused an event."""


def body(number: int) -> bytes:
    """An event as the load client publishes it: its time, its number from 1 on, padded to the same size."""
    head = b'{"t":%d,"id":"%d","type":"order.updated","data":{"pad":"' % (time.time_ns(), number)
    return head + b"x" * (EVENT_BYTES - len(head) - 3) + b'"}}'


class NatsLine:
    """One connection; `with` closes it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._held = b""
        self._socket.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %s 1\r\nPING\r\n' % _INBOX.encode())
        while b"PONG\r\n" not in self._held:
            self._fill()
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _fill(self) -> None:
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise PreloadFailed("NATS closed the connection")
        self._held += piece

    def _answer(self) -> bytes:
        """The next message to the inbox."""
        while True:
            line, found, rest = self._held.partition(b"\r\n")
            if found and not line.startswith(b"MSG "):
                if line == b"PING":
                    self._socket.sendall(b"PONG\r\n")
                self._held = rest
                continue
            if found:
                length = int(line.rpartition(b" ")[2])
                if len(rest) >= length + 2:
                    self._held = rest[length + 2 :]
                    return rest[:length]
            self._fill()

    def request(self, subject: str, payload: bytes = b"") -> Any:
        """One JetStream API call."""
        self._socket.sendall(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), _INBOX.encode(), len(payload), payload))
        return json.loads(self._answer())

    def preload(self, subject_of: Callable[[int], str], count: int) -> int:
        """Store `count` events, each acknowledged; the sequence before the first.

        Raises:
            PreloadFailed: one was refused.
        """
        first = None
        for start in range(0, count, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, count))
            lines = (
                b"PUB %s %s %d\r\n%s\r\n" % (subject_of(index).encode(), _INBOX.encode(), EVENT_BYTES, body(index + 1))
                for index in some
            )
            self._socket.sendall(b"".join(lines))
            for _ in some:
                answer = self._answer()
                stored = _SEQUENCE.search(answer)
                if stored is None:
                    raise PreloadFailed(answer.decode(errors="replace")[:300])
                first = first or int(stored[1])
        return (first or 1) - 1
