"""Request bodies: read whole, and bounded in size, in time and in sum while they are read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import Request

from contracts.errors import ErrorCode, Problem, Refused

_RETRY_MS = 1000


class Bodies:
    """The bodies in memory now: what one request may bring, and all of them together."""

    def __init__(self, *, most_bytes: int, seconds: float) -> None:
        self._most_bytes = most_bytes
        self._seconds = seconds
        # Bytes of all bodies being read or stored.
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The whole body, counted until the block ends.

        Raises:
            Refused: `message_too_large`; `rate_limited` where others hold too much; `invalid_message` if it is slow.
            ClientDisconnect: the client left.
        """
        # What the head declares is refused before it is sent: a client that awaits `100 Continue` sends nothing.
        if int(request.headers.get("content-length", "0")) > limit:
            raise _too_large(limit)
        body = bytearray()
        try:
            await self._fill(body, request, limit)
            yield bytes(body)
        finally:
            self.held_bytes -= len(body)

    async def _fill(self, body: bytearray, request: Request, limit: int) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    self.held_bytes += len(chunk)
                    body += chunk
                    if len(body) > limit:
                        raise _too_large(limit)
                    if self.held_bytes > self._most_bytes:
                        raise Refused(Problem(ErrorCode.RATE_LIMITED, "too much at once; slow down", _RETRY_MS))
        except TimeoutError as error:
            why = f"the body took longer than {self._seconds:g} s"
            raise Refused(Problem(ErrorCode.INVALID_MESSAGE, why, retryable=True)) from error


def _too_large(limit: int) -> Refused:
    return Refused(Problem(ErrorCode.MESSAGE_TOO_LARGE, f"the body may have at most {limit} bytes"))
