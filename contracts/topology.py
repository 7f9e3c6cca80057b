"""The streams, as data: what every NATS site is made equal to (DESIGN decisions 6, 7, 11).

Says what is to exist; `services.chassis.jetstream` and `services.relay` make it so.
"""

from dataclasses import dataclass, replace

from contracts.subjects import MARKET, PLAN

EPOCH = "epoch"
"""The metadata key under which a stream bears its epoch; mirrors copy it."""

DUPLICATE_WINDOW_SECONDS = 120
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. Ages in seconds, sizes in bytes; `None` is without limit."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int | None = None
    max_age_seconds: int | None = None
    # "new" refuses writes when full, "old" forgets the oldest.
    discard: str = "new"
    replicas: int = 1

    @property
    def replay_mirror(self) -> str:
        """The mirror that wild-card replays are read from, so that they never stall a write (DESIGN decision 4)."""
        return f"{self.name}_REPLAY"


STREAMS = (
    # The source of truth: kept for ever, and a full stream refuses writes rather than forget.
    StreamSpec("MARKET", (MARKET.wildcard,), max_bytes=8 * GIB, discard="new"),
    StreamSpec("PLANS", (PLAN.wildcard,), max_bytes=1 * GIB, max_age_seconds=7 * 24 * 3600, discard="old"),
)


def streams(*, market_max_bytes: int | None = None, replicas: int = 1) -> tuple[StreamSpec, ...]:
    """The topology of one site, with the operator's sizes put in."""
    found = []
    for spec in STREAMS:
        if spec.name == "MARKET" and market_max_bytes is not None:
            spec = replace(spec, max_bytes=market_max_bytes)
        found.append(replace(spec, replicas=replicas))
    return tuple(found)
