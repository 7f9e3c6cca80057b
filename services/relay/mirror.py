"""The judge of a replay mirror: whether it still is a copy of its stream, and whether it follows. Pure.

A mirror is our own copy, so one that is wrong is made again. What can only be seen over time (a lost
beginning, holes, no progress) is held against it when it is seen twice: stream and mirror are read one
after the other, and a stream that ages may be a little ahead of its mirror or behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from contracts.cursor import epoch_is_older
from contracts.topology import EPOCH, StreamSpec
from services.chassis.jetstream import StreamState, state_of

_LONGEST_STALL_SECONDS = 3600.0


class Fault(Enum):
    """Why a mirror is made again."""

    CANNOT_REPLICATE = "it writes to disk in its own time, and such a stream can have one copy only"
    NOT_WHOLE = "it is not made as a copy of the whole stream, in files"
    OTHER_LIFE = "it is of an earlier life of the stream"
    BEYOND_END = "it goes on beyond the end of the stream"
    LOST_START = "it lacks the beginning of the stream"
    OTHER_CONTENT = "it does not hold the same number of events between the same two"
    STALLED = "it lacks events and gets none"
    NOT_FED = "the hub has no consumer that feeds it"
    LOST_END = "it has lost what it had acknowledged"


@dataclass(frozen=True, slots=True)
class Look:
    """What was read of a stream and its mirror in one round, the mirror first."""

    mirror: StreamState
    mirror_info: Mapping[str, Any]
    stream: StreamState
    # Age of the oldest event that the mirror lacks; None where it lacks none.
    lag_seconds: float | None = None

    @property
    def lag_messages(self) -> int:
        """How many sequences the mirror is behind."""
        return max(0, self.stream.last - self.mirror.last) if self.lag_seconds is not None else 0


def is_ours(spec: StreamSpec, mirror_info: Mapping[str, Any]) -> bool:
    """Whether this is a copy of the stream at all; what is not is never deleted."""
    source = mirror_info["config"].get("mirror") or {}
    return source.get("name") == spec.name and "external" not in source


def bears_epoch(look: Look) -> bool:
    """Whether the mirror says of which life of the stream it is, or must be of the present one."""
    return EPOCH in look.mirror.config.get("metadata", {})


class Judge:
    """Remembers, of one mirror, what has to be seen twice."""

    def __init__(self, stall_seconds: float) -> None:
        self._first_stall_seconds = stall_seconds
        # How long without progress is too long; doubles with each repair, so that one that does not help is rare.
        self._stall_seconds = stall_seconds
        # The mirror's first sequence, seen beyond the stream's.
        self._start: int | None = None
        # (first, last, stream's messages, mirror's messages), seen with two different counts.
        self._counts: tuple[int, int, int, int] | None = None
        # The mirror's last sequence and when it was first seen there, while it lacks events.
        self._stuck: tuple[int, float] | None = None

    def judge(self, look: Look, now: float) -> Fault | None:
        """What is wrong with the mirror; `now` in seconds of any clock that does not go back."""
        mirror, stream = look.mirror, look.stream
        if set(mirror.config["mirror"]) != {"name"} or mirror.config["storage"] != "file":
            return Fault.NOT_WHOLE
        if self._is_of_other_life(look):
            return Fault.OTHER_LIFE
        if mirror.config.get("persist_mode") == "async" and stream.replicas > 1:
            return Fault.CANNOT_REPLICATE
        if mirror.last > stream.last:
            return Fault.BEYOND_END
        # All three look, so that each sees every round.
        found = (self._lost_start(mirror, stream), self._other_content(mirror, stream), self._stalled(look, now))
        return next((fault for fault in found if fault is not None), None)

    def repaired(self) -> None:
        """The mirror was made again: forget what was seen of the old one."""
        self._start = self._counts = self._stuck = None
        self._stall_seconds = min(2 * self._stall_seconds, _LONGEST_STALL_SECONDS)

    @staticmethod
    def _is_of_other_life(look: Look) -> bool:
        if bears_epoch(look):
            return look.mirror.epoch != look.stream.epoch
        # Made by hand: it can only be a copy of this stream's life where it was made in it.
        return epoch_is_older(look.mirror.epoch, look.stream.epoch)

    def _lost_start(self, mirror: StreamState, stream: StreamState) -> Fault | None:
        was, self._start = self._start, mirror.first if mirror.first > stream.first else None
        return Fault.LOST_START if self._start is not None and self._start == was else None

    def _other_content(self, mirror: StreamState, stream: StreamState) -> Fault | None:
        level = (mirror.first, mirror.last) == (stream.first, stream.last) and mirror.messages != stream.messages
        counts = (stream.first, stream.last, stream.messages, mirror.messages) if level else None
        was, self._counts = self._counts, counts
        return Fault.OTHER_CONTENT if counts is not None and was == counts else None

    def _stalled(self, look: Look, now: float) -> Fault | None:
        if look.lag_seconds is None:
            self._stuck = None
            self._stall_seconds = self._first_stall_seconds
            return None
        if self._stuck is None or self._stuck[0] != look.mirror.last:
            self._stuck = (look.mirror.last, now)
        return Fault.STALLED if now - self._stuck[1] >= self._stall_seconds else None


def look_at(mirror_info: Mapping[str, Any], stream: StreamState, lag_seconds: float | None) -> Look:
    """A look, of answers to `STREAM.INFO`."""
    return Look(state_of(mirror_info), mirror_info, stream, lag_seconds)
