"""HTTP/1.1 connections of the bench that cost little: one request at a time each, nothing parsed but what is needed."""

import asyncio
import json
from typing import Any

_LENGTH = b"content-length: "


class HttpLine:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @staticmethod
    async def open(port: int) -> "HttpLine":
        """Connect to this machine."""
        return HttpLine(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, path: str, headers: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of one request; `headers` are whole lines."""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        start = answer.index(_LENGTH) + len(_LENGTH)
        length = int(answer[start : answer.index(b"\r", start)])
        return int(answer[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Give it up."""
        self._writer.close()


def document(body: bytes) -> Any:
    """A JSON body."""
    return json.loads(body)
