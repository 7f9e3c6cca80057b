"""Judges figures against targets: met, not met, or why neither. Pure; nothing ever fails by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.load.figures import METRICS, Figures, of, ratio
from tests.load.workloads import Target


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target with what was found."""

    target: Target
    # The median: of the metric, or of its ratio to the peer's.
    found: float | None

    @property
    def is_met(self) -> bool | None:
        """None where there is nothing to judge."""
        if self.found is None:
            return None
        return self.found >= self.target.bound if self.target.relation == ">=" else self.found <= self.target.bound

    def __str__(self) -> str:
        target = self.target
        beside = f" x {target.peer}" if target.peer else ""
        asked = f"{METRICS[target.metric].heading} {target.relation} {target.bound:g}{beside}"
        if self.found is None:
            return f"{asked}: {'no ' + target.peer + ' here' if target.peer else 'not measured'}"
        return f"{asked}: {self.found:.3g}{beside}, {'met' if self.is_met else 'not met'}"


def judge(targets: Sequence[Target], runs: Mapping[str, Sequence[Figures | None]]) -> list[Verdict]:
    """Each target by the medians."""
    ours = runs.get("ours", ())
    verdicts = []
    for target in targets:
        if target.peer is None:
            found = of(ours, target.metric)
        else:
            found = ratio(ours, runs.get(target.peer, ()), target.metric)
        verdicts.append(Verdict(target, None if found is None else found.median))
    return verdicts
