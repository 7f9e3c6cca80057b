"""The line: who has connected and asked is heard in order, so many in a turn of the loop (docs/adr/0045).

However many clients come at once, live events go between their handshakes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

# Some 6 ms of handshakes.
HEARD_A_TURN = 32
# What those who wait have said, all together: requests of some 30,000 clients. Who would have it grow beyond is heard
# at once, since what is heard is judged, and refused where it is too long.
MOST_WAITING_BYTES = 16 * 1024 * 1024


class Newcomer(Protocol):
    """A connection that has said its first."""

    # Whether what it said waits to be heard.
    waits: bool

    @property
    def transport(self) -> asyncio.Transport:
        """Where it is read from."""

    def data_received(self, data: bytes) -> None:
        """Hear it."""


class Line:
    """One for each server."""

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """`wake` has its argument called in the next turn of the loop."""
        self._wake = wake
        self._waiting: deque[tuple[Newcomer, bytes]] = deque()
        self._waiting_bytes = 0
        # How many more may be heard in this turn.
        self._room = HEARD_A_TURN
        self._awake = False

    def join(self, one: Newcomer, data: bytes) -> None:
        """Have `one` hear `data`, now where there is room, else in its turn; nothing more is read of it until then."""
        if not self._awake:
            self._awake = True
            self._wake(self._next_turn)
        if self._room:
            self._room -= 1
            one.data_received(data)
        elif self._waiting_bytes + len(data) > MOST_WAITING_BYTES:
            one.data_received(data)
        else:
            one.waits = True
            one.transport.pause_reading()
            self._waiting.append((one, data))
            self._waiting_bytes += len(data)

    def _next_turn(self) -> None:
        self._room = HEARD_A_TURN
        self._awake = bool(self._waiting)
        if self._awake:
            self._wake(self._next_turn)
        while self._room and self._waiting:
            one, data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            one.waits = False
            if not one.transport.is_closing():
                self._room -= 1
                one.transport.resume_reading()
                _hear(one, data)


def _hear(one: Newcomer, data: bytes) -> None:
    try:
        one.data_received(data)
    except BaseException:
        one.transport.abort()  # as the loop does where it hands over what it has read
        raise
