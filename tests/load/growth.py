"""Growth: what a delivery costs as connections and channels become more, and what a subscription costs.

The gateway alone: the question is whether its cost stays flat, not how it compares.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.load.figures import METRICS, Figures, Spread, of
from tests.load.table import aligned, cell
from tests.load.workloads import WORKLOADS, Sizes, Workload

CONNECTIONS = (100, 1000, 5000, 10_000)
CHANNELS = (1, 100, 10_000)
QUICK_CONNECTIONS = (10, 100)
QUICK_CHANNELS = (1, 100)
_SHOWN = ("cpu_s_per_million", "deliveries_per_s", "p99_ms")

Run = Callable[[Workload], Figures | None]


@dataclass(frozen=True, slots=True)
class Point:
    """One size of one workload."""

    workload: Workload
    size: int
    runs: tuple[Figures | None, ...]


def points(run: Run, rounds: int, *, quick: bool) -> list[Point]:
    """Measure W1 by connections and W2 by channels."""
    found = []
    sizes: Mapping[str, Sequence[int]] = {
        "W1": QUICK_CONNECTIONS if quick else CONNECTIONS,
        "W2": QUICK_CHANNELS if quick else CHANNELS,
    }
    for name, counts in sizes.items():
        for count in counts:
            workload = replace(WORKLOADS[name], connections=count)
            found.append(Point(workload, count, tuple(run(workload) for _ in range(rounds))))
    return found


def subscription(run: Run, rounds: int, sizes: Sizes) -> Spread | None:
    """Microseconds of the servers' core that a subscription adds to a connection."""
    idle = replace(WORKLOADS["W4-one"], connections=sizes.idle)
    bare = replace(idle, subscribes=False)
    costs = []
    for _ in range(rounds):
        both = run(idle), run(bare)
        values = [figures.get("connect_cpu_us") for figures in both if figures is not None]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            costs.append({"us": values[0] - values[1]})
    return of(costs, "us")


def render(found: Sequence[Point], subscribing: Spread | None) -> str:
    """The table."""
    rows = [["", *(METRICS[metric].heading for metric in _SHOWN)]]
    for point in found:
        what = "connections on one channel" if point.workload.name == "W1" else "channels, a connection each"
        cells = [cell(of(point.runs, metric), METRICS[metric].decimals) for metric in _SHOWN]
        rows.append([f"{point.workload.name} {point.size:,} {what}", *cells])
    lines = ["Growth: the gateway alone, saturated; s/M is the servers' core, for a million deliveries"]
    lines += [f"  {line}" for line in aligned(rows)]
    return "\n".join([*lines, f"  a subscription: {cell(subscribing, 0)} us of the servers' core"])


def as_json(found: Sequence[Point], subscribing: Spread | None) -> dict[str, object]:
    """The same as data."""
    return {
        "points": [{"workload": point.workload.name, "size": point.size, "runs": point.runs} for point in found],
        "subscription_us": None if subscribing is None else subscribing.median,
    }
