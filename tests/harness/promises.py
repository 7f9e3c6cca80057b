"""What a model of delivery knows: which channel was promised what, and every event that a stream ever had."""

from dataclasses import dataclass, field
from typing import Any

from tests.harness.archive import Stored


@dataclass
class Promise:
    """One channel of the connection, as the client has to see it."""

    name: str
    channel: str
    key: str
    asked: dict[str, Any]
    # When it was asked: the stream's last sequence, the log's high watermark, and how often all was made anew by then.
    last: int
    high: int
    restarts: int
    types: list[str] | None
    position: int | None = None
    life: int = 0
    live: bool = False
    delivered: int = 0
    # Just placed: a gap that follows at once belongs to the placing.
    fresh: bool = False


@dataclass
class History:
    """Every event that a stream ever had, life by life."""

    lives: list[dict[int, Stored]] = field(default_factory=lambda: [{}])

    def due(self, promise: Promise, life: int, after: int, upto: int) -> list[int]:
        """The sequences of (after, upto] that the channel has to get."""
        return [
            sequence
            for sequence, one in sorted(self.lives[life].items())
            if after < sequence <= upto
            and one.is_event
            and promise.key in one.keys
            and (promise.types is None or one.kind in promise.types)
        ]
