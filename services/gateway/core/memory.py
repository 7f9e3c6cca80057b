"""The memory guard: no new connections for a process that holds too much; those that stand live on (PROTOCOL §9).

Looks once a second, on the wheel. Lets go somewhat below the limit, so that it does not flicker there.
"""

from collections.abc import Callable

from services.gateway.core.replica import Replica

_LOOK_SECONDS = 1.0
_LET_GO_SHARE = 0.97


class MemoryGuard:
    """Sets `overloaded` of its replica."""

    def __init__(
        self, replica: Replica, limit: int, resident: Callable[[], int], on_change: Callable[[bool, int], None]
    ) -> None:
        """`limit` in bytes; `resident` measures the process; `on_change` is told what begins or ends, and the size."""
        self._replica = replica
        self._resident = resident
        self._on_change = on_change
        self.limit = limit
        # As last measured.
        self.bytes = 0
        self.due: float | None = None
        replica.wheel.put(self, replica.now())

    def tick(self, now: float) -> float:
        """Measure, and judge."""
        replica, self.bytes = self._replica, self._resident()
        over = self.bytes > (self.limit * _LET_GO_SHARE if replica.overloaded else self.limit)
        if over != replica.overloaded:
            replica.overloaded = over
            self._on_change(over, self.bytes)
        return now + _LOOK_SECONDS
