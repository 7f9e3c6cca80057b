"""What one look at a region found, as values. Pure."""

from dataclasses import dataclass, field

from services.chassis.jetstream import StreamState


@dataclass(frozen=True, slots=True)
class MirrorLook:
    """How a region's mirror follows."""

    # Events and seconds that it is behind; 0 where it lacks nothing.
    lag_messages: int
    lag_seconds: float
    # Since it last heard of the hub; None before the first time. The lag that JetStream tells stays 0 during a cut.
    active_seconds: float | None
    # What the hub has not sent yet; None where the hub does not tell.
    pending: int | None
    size_bytes: int


@dataclass(slots=True)
class RegionStreamReport:
    """One stream of a region as it stands, and what there is to say about it."""

    name: str
    # Whether the hub answered.
    is_linked: bool = True
    # None where the hub has none, or is out of reach.
    hub: StreamState | None = None
    # What bears the mirror's name in the region; None where nothing does.
    mirror: StreamState | None = None
    look: MirrorLook | None = None
    # Why the mirror was made again in this round.
    repaired: str | None = None
    # What stands between the mirror and its stream and was not put right.
    wrong: list[str] = field(default_factory=list)

    @property
    def is_as_declared(self) -> bool:
        """Whether the region has its mirror and nothing is wrong with it, as far as can be told now."""
        return not self.wrong and self.mirror is not None
