"""The tables: a workload with a row for each peer, its targets below. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.load.figures import METRICS, Figures, Spread, faults, of, ratio
from tests.load.targets import judge
from tests.load.workloads import Workload

_GAP = "  "


@dataclass(slots=True)
class Result:
    """All that was measured of one workload."""

    workload: Workload
    connections: int
    behind: int
    # Peer -> a run each round; None where it failed.
    runs: dict[str, list[Figures | None]] = field(default_factory=dict)
    # Whether its targets may be judged: not after a run that was only to see that it works.
    judged: bool = True

    @property
    def title(self) -> str:
        """What was run."""
        return self.workload.title.format(n=f"{self.connections:,}", behind=self.behind)


def number(value: float, decimals: int | None) -> str:
    """A figure; without decimals given, with a suffix and three digits."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.0f}"


def cell(found: Spread | None, decimals: int | None) -> str:
    """The median, and the range where there is one."""
    if found is None:
        return "-"
    median = number(found.median, decimals)
    if found.least == found.most:
        return median
    return f"{median} ({number(found.least, decimals)}..{number(found.most, decimals)})"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; the first is left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(columns))
        .rstrip()
        for columns in (zip(row, widths, strict=True) for row in rows)
    ]  # fmt: skip


def render(result: Result) -> str:
    """The table of one workload."""
    workload = result.workload
    rows = [["", *(METRICS[metric].heading for metric in workload.metrics), "ours is", "faults"]]
    for peer, runs in result.runs.items():
        cells = [cell(of(runs, metric), METRICS[metric].decimals) for metric in workload.metrics]
        wrong = ", ".join(f"{count} {name}" for name, count in faults(runs).items())
        rows.append([peer, *cells, _compared(result, peer), wrong or "none"])
    lines = [f"{workload.name}: {result.title}"]
    lines += [f"  {line}" for line in aligned(rows)]
    if result.judged:
        lines += [f"  target: {verdict}" for verdict in judge(workload.targets, result.runs)]
    return "\n".join(lines)


def _compared(result: Result, peer: str) -> str:
    if peer == "ours" or "ours" not in result.runs:
        return ""
    found = ratio(result.runs["ours"], result.runs[peer], result.workload.metrics[0])
    return "-" if found is None else f"{found.median:.3g} x"


def as_json(result: Result) -> dict[str, object]:
    """The same as data, every run of it."""
    verdicts = judge(result.workload.targets, result.runs) if result.judged else []
    return {
        "workload": result.workload.name,
        "title": result.title,
        "connections": result.connections,
        "runs": result.runs,
        "targets": [
            {
                "metric": verdict.target.metric,
                "relation": verdict.target.relation,
                "bound": verdict.target.bound,
                "peer": verdict.target.peer,
                "found": verdict.found,
                "met": verdict.is_met,
            }
            for verdict in verdicts
        ],
    }


def facts_table(facts: Mapping[str, str]) -> str:
    """The machine, a line each."""
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())
