"""HTTP written by hand, for what no client library would send."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from tests.harness.tokens import bearer


class Raw:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def half_close(self) -> None:
        """Say that nothing more will be sent; go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave as a crash would: RST."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def read_until(self, mark: bytes, seconds: float = 5) -> bytes:
        """Everything up to and with `mark`."""
        async with asyncio.timeout(seconds):
            return await self.reader.readuntil(mark)

    async def read_message(self, seconds: float = 5) -> dict[str, Any]:
        """The next WebSocket message; control frames are passed over, a close frame is `{"close": code}`."""
        async with asyncio.timeout(seconds):
            while True:
                head = await self.reader.readexactly(2)
                length = head[1]
                if length >= 126:
                    length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
                payload = await self.reader.readexactly(length)
                if head[0] == 0x81:
                    found: dict[str, Any] = json.loads(payload)
                    return found
                if head[0] == 0x88:
                    return {"op": "close", "code": int.from_bytes(payload[:2], "big")}

    async def send_message(self, **message: Any) -> None:
        await self.send(frame(json.dumps(message).encode()))

    async def read_all(self, seconds: float = 5) -> bytes:
        """Everything until the server closes; what came until then where it resets."""
        found = b""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    piece = await self.reader.read(65536)
                except ConnectionResetError:
                    return found
                if not piece:
                    return found
                found += piece


@contextlib.asynccontextmanager
async def connected(url: str, *, receive_bytes: int | None = None, limit: int = 2**20) -> AsyncIterator[Raw]:
    """A connection to the server of `url`; with `receive_bytes` one that takes little at a time."""
    parts = urlsplit(url)
    plain = socket.socket()
    if receive_bytes is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=limit)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(path: str, sub: str = "b1", role: str = "buyer", *, method: str = "GET", version: str = "1.1") -> bytes:
    """A request with a token, as bytes."""
    authorization = bearer(sub, role)["Authorization"]
    return f"{method} {path} HTTP/{version}\r\nHost: gateway\r\nAuthorization: {authorization}\r\n\r\n".encode()


def handshake(
    sub: str | None = None, role: str = "buyer", *, leave_out: str = "", request_line: str = "", **changes: str
) -> bytes:
    """A WebSocket handshake; `changes` replace or add headers, dashes written as underscores."""
    headers = {
        "Host": "gateway",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(bearer(sub, role) if sub else {}),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    headers.pop(leave_out, None)
    lines = [request_line or "GET /v1/ws HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, mask: bytes | None = b"\1\2\3\4") -> bytes:
    """A client's WebSocket frame; unmasked, which is a fault, where `mask` is None."""
    length = len(payload)
    flag = 0x80 if mask is not None else 0
    head = bytes([opcode | (0x80 if fin else 0)])
    if length < 126:
        head += bytes([flag | length])
    elif length < 65536:
        head += bytes([flag | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + length.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
