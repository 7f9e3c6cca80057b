"""The drain: how a replica leaves without anybody noticing (PROTOCOL §9).

First it is unready and serves as ever, so that the balancer sends nobody new. Then whoever comes is sent on, every
WebSocket is told when to come back, and connections are closed one after the other, evenly over the spread: their
return is no storm for the replicas that stay. Owns no timer; the wheel turns it.
"""

import math
from collections import deque
from collections.abc import Callable

from services.gateway.core.connection import Connection
from services.gateway.core.replica import Replica
from services.gateway.core.wheel import SLOT_SECONDS

# Told in one tick, so that a full replica is not busy with it for long.
_TOLD_A_TICK = 2000


class Drain:
    """One replica's leaving, from the signal to the last connection."""

    def __init__(self, replica: Replica, grace: float, spread: float, done: Callable[[], None]) -> None:
        """`done` is called once nobody is left, or the spread is over. Times in seconds."""
        self._replica = replica
        self._spread = spread
        self._done: Callable[[], None] | None = done
        self.due: float | None = None
        # When connections begin to close.
        self._begins_at = replica.now() + grace
        # Who is closed when, in order; None during the grace.
        self._leaving: deque[tuple[float, Connection]] | None = None
        # Those of them who have not been told yet.
        self._untold: deque[tuple[float, Connection]] = deque()
        replica.leaving = True
        replica.wheel.put(self, self._begins_at)
        if grace <= 0:
            self.tick(replica.now())

    def hurry(self) -> None:
        """Wait for nothing more."""
        self._begin(self._replica.now())
        self._finish()

    def tick(self, now: float) -> float | None:
        """What is due by now; when to come again."""
        if self._done is None:
            return None
        if self._leaving is None:
            if now < self._begins_at:
                return self._begins_at
            self._begin(now)
        self._tell(now)
        leaving = self._leaving or deque()
        while leaving and leaving[0][0] <= now:
            # Who is told and who is closed come in the same order.
            told = len(self._untold) < len(leaving)
            _, connection = leaving.popleft()
            if not told:
                self._untold.popleft()
            if not connection.closed:
                connection.drain(told=told)
        if not leaving or not self._replica.connections:  # those that are left may all have gone by themselves
            self._finish()
            return None
        return now + SLOT_SECONDS

    def _begin(self, now: float) -> None:
        if self._leaving is not None:
            return
        self._replica.drain()
        # Who is closed when is drawn, so that neither the oldest nor the youngest connections are always the first.
        shuffled = sorted(self._replica.connections, key=lambda _: self._replica.random())
        step = self._spread / max(1, len(shuffled))
        self._leaving = deque((now + (place + 0.5) * step, connection) for place, connection in enumerate(shuffled))
        self._untold = deque(self._leaving)

    def _tell(self, now: float) -> None:
        for _ in range(min(_TOLD_A_TICK, len(self._untold))):
            due, connection = self._untold.popleft()
            if not connection.closed:
                connection.announce_drain(max(0, math.ceil((due - now) * 1000)))

    def _finish(self) -> None:
        done, self._done = self._done, None
        self._replica.wheel.drop(self)
        if done is not None:
            done()
