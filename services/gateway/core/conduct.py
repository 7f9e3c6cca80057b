"""Conduct: how much a client sends, and how much of it makes no sense; made when it first sends (PROTOCOL §5, §9)."""

from services.gateway.core.limits import Limits, TokenBucket

_FAULT_SECONDS = 60


class Conduct(TokenBucket):
    """One client's."""

    __slots__ = ("_faults", "_refused")

    def __init__(self, burst: float, now: float) -> None:
        super().__init__(burst, now)
        # Messages refused for their rate since one was granted.
        self._refused = 0
        # Times of the latest malformed messages; None as long as there are none.
        self._faults: list[float] | None = None

    def excess(self, limits: Limits, now: float) -> float:
        """Take one from the client's rate: 0.0, or the seconds after which it would have been granted."""
        wait = self.take(limits.client_rate, limits.client_burst, now)
        self._refused = self._refused + 1 if wait else 0
        return wait

    def goes_on(self, limits: Limits) -> bool:
        """Whether it goes on sending though as much as a burst was refused."""
        return self._refused >= limits.client_burst

    def is_hopeless(self, limits: Limits, now: float) -> bool:
        """Count a malformed message; whether it was one too many."""
        self._faults = [*(at for at in self._faults or () if at > now - _FAULT_SECONDS), now]
        return len(self._faults) >= limits.malformed_per_minute
