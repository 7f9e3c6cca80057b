"""Figures: what a run measured, how runs are summed up, how two peers compare. Pure."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]
"""One run of one peer: metric -> value."""

# What must be zero for the figures of a run to be worth reading.
FAULTS = ("errors", "dropped", "disordered", "missing", "incomplete", "miscoded")


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure is shown."""

    heading: str
    # Decimals; None for large counts, shown with a suffix.
    decimals: int | None


METRICS: Mapping[str, Metric] = {
    "deliveries_per_s": Metric("deliveries/s", None),
    "cpu_s_per_million": Metric("s/M", 2),
    "p50_ms": Metric("p50 ms", 1),
    "p99_ms": Metric("p99 ms", 1),
    "client_us": Metric("client us", 2),
    "kib_per_connection": Metric("KB/conn", 2),
    "connects_per_s": Metric("connects/s", None),
    "live_per_s": Metric("live/s", None),
    "connect_cpu_us": Metric("CPU us/conn", 0),
    "caught_up_s": Metric("seconds", 2),
    "core_s": Metric("core s", 2),
    "publish_p50_ms": Metric("publish p50", 1),
    "publish_p99_ms": Metric("publish p99", 1),
    "published": Metric("published", None),
    "refused": Metric("refused", 0),
    "kib_per_stalled": Metric("KB/stalled", 0),
    "commands_per_s": Metric("commands/s", None),
    "command_us": Metric("service us", 0),
    "restart_s": Metric("restart s", 2),
    "closed_share": Metric("closed 4102", 2),
}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs, with the least and the most."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread | None:
    """Sum up; None where there is no value."""
    found = [value for value in values if not math.isnan(value)]
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def of(runs: Sequence[Figures | None], metric: str) -> Spread | None:
    """A metric over the runs that have it."""
    return spread(run[metric] for run in runs if run is not None and metric in run)


def ratio(ours: Sequence[Figures | None], peer: Sequence[Figures | None], metric: str) -> Spread | None:
    """Ours divided by the peer's, round by round: what changed on the machine between rounds cancels out."""
    found = []
    for mine, theirs in zip(ours, peer, strict=False):
        if mine is not None and theirs is not None and theirs.get(metric) and metric in mine:
            found.append(mine[metric] / theirs[metric])
    return spread(found)


def faults(runs: Sequence[Figures | None]) -> dict[str, int]:
    """What went wrong, summed over the runs; a run that gave no figures is `failed`."""
    found = {name: int(sum(run.get(name, 0) for run in runs if run is not None)) for name in FAULTS}
    found["failed"] = sum(run is None for run in runs)
    return {name: count for name, count in found.items() if count}


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all values lie; not a number where there is none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else math.nan
