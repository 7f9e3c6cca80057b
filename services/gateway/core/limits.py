"""Limits: how much one client may ask (PROTOCOL §9)."""

from dataclasses import dataclass

from services.gateway.core.headcount import Policy


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults of PROTOCOL §9; times in seconds, sizes in bytes."""

    heartbeat_seconds: float = 25.0
    idle_seconds: float = 60.0
    auth_seconds: float = 10.0
    token_grace_seconds: float = 30.0
    stall_seconds: float = 30.0
    close_seconds: float = 5.0
    sse_idle_seconds: float = 15.0
    # A2A's SDK gives a stream up after 5 s of silence.
    task_idle_seconds: float = 3.0
    # How long a blocking `SendMessage` waits for its plan.
    task_wait_seconds: float = 60.0
    reconnect_spread_seconds: float = 1.0
    max_channels: int = 128
    max_connections_per_principal: int = 20
    connection_policy: Policy = Policy.OLDEST
    client_rate: float = 20.0
    client_burst: int = 40
    write_high_bytes: int = 256 * 1024
    # Of one connection in one channel: presence operations in 30 s, and signals of each kind a second.
    presence_burst: int = 5
    typing_rate: float = 1.0
    presence_lease_seconds: float = 10.0
    presence_grace_seconds: float = 10.0
    # How many malformed messages in a minute close the connection.
    malformed_per_minute: int = 10

    def as_wire(self) -> dict[str, int | float]:
        """What `welcome` tells of them."""
        return {
            "max_channels": self.max_channels,
            "client_rate": self.client_rate,
            "client_burst": self.client_burst,
            "idle_s": self.idle_seconds,
        }


class TokenBucket:
    """A rate with a burst; holds two numbers and no timer."""

    __slots__ = ("_at", "_level")

    def __init__(self, burst: float, now: float) -> None:
        self._level = burst
        self._at = now

    def take(self, rate: float, burst: float, now: float) -> float:
        """Take one; 0.0 where it was granted, else the seconds after which one will be."""
        self._level = min(burst, self._level + (now - self._at) * rate)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / rate
