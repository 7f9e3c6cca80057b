"""What one look at the site found, as values; and as a table for people. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.chassis.jetstream import StreamState

_COLUMNS = ("STREAM", "EPOCH", "FIRST", "LAST", "MESSAGES", "BYTES", "COPIES", "MIRROR LAG")


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """A replay mirror as it stands."""

    name: str
    lag_messages: int
    lag_seconds: float


@dataclass(slots=True)
class StreamReport:
    """One stream of the topology as it stands, and what there is to say about it."""

    name: str
    # None where it is missing.
    stream: StreamState | None = None
    size_bytes: int = 0
    mirror: MirrorReport | None = None
    # What was put right in this round.
    corrected: list[str] = field(default_factory=list)
    # Why the mirror was made again in this round.
    repaired: str | None = None
    # The stream keeps more than the topology says; it serves as well as any.
    kept: list[str] = field(default_factory=list)
    # What stands between the stream and the topology and was not put right.
    wrong: list[str] = field(default_factory=list)
    # The server has no room for it.
    no_room: bool = False

    @property
    def is_as_declared(self) -> bool:
        """Whether the site serves this stream as the topology says, or keeps more of it."""
        return not self.wrong


def told(reports: Iterable[StreamReport], *, kept: bool) -> list[str]:
    """What was refused, one sentence each: what is wrong, or with `kept` what is merely larger."""
    return [f"{report.name}: {reason}" for report in reports for reason in (report.kept if kept else report.wrong)]


def table(reports: Iterable[StreamReport]) -> str:
    """The streams, one line each, and below them what is wrong."""
    reports = list(reports)
    rows = [_COLUMNS, *map(_row, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [*told(reports, kept=False), *(f"{text} (served as it is)" for text in told(reports, kept=True))]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _row(report: StreamReport) -> tuple[str, ...]:
    stream = report.stream
    if stream is None:
        return (report.name, "missing", *["-"] * (len(_COLUMNS) - 2))
    numbers = (stream.first, stream.last, stream.messages, report.size_bytes, stream.replicas)
    return (report.name, stream.epoch, *map(str, numbers), _lag(report.mirror))


def _lag(mirror: MirrorReport | None) -> str:
    if mirror is None:
        return "no mirror"
    return f"{mirror.lag_messages} messages, {mirror.lag_seconds:.1f} s" if mirror.lag_messages else "none"
