"""Ended plans that were listed lately: what is over does not change, so a list need not read it again and again.

Bounded by bytes and by age. Told apart by the stream's life and by how many events of the plan it holds: where
that has changed, the plan is read.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.plans import domain
from services.plans.domain import Plan

# Of their JSON; in memory they are some times as large.
_MOST_BYTES = 8 * 1024**2
# One that is larger would push many others out.
_LARGEST_BYTES = 64 * 1024
_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What the stream says of a plan without its being read: in another life, or with other events, it is another."""

    epoch: str
    events: int


@dataclass(frozen=True, slots=True)
class _Kept:
    plan: Plan
    mark: Mark
    size: int
    until: float


class EndedPlans:
    """By their subjects; those that were asked for longest ago go first."""

    def __init__(self, most_bytes: int = _MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def get(self, subject: str, mark: Mark) -> Plan | None:
        """The plan, if it is kept and this is it."""
        found = self._kept.get(subject)
        if found is None:
            return None
        if found.mark != mark or found.until < self._clock():
            self._drop(subject)
            return None
        self._kept.move_to_end(subject)
        return found.plan

    def keep(self, subject: str, mark: Mark, plan: Plan) -> None:
        """Have it at hand; one that is not over is not kept."""
        if not plan.is_over:
            return
        size = len(json.dumps(domain.task(plan), ensure_ascii=False).encode())
        if size > _LARGEST_BYTES:
            return
        self._drop(subject)
        self._kept[subject] = _Kept(plan, mark, size, self._clock() + _SECONDS)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, subject: str) -> None:
        found = self._kept.pop(subject, None)
        self._bytes -= found.size if found is not None else 0
