"""The tables: medians with their range, the ratio beside each peer, and what each target found."""

import json

import pytest

from tests.load.figures import Figures, Spread
from tests.load.growth import Point
from tests.load.growth import render as render_growth
from tests.load.table import Result, aligned, as_json, cell, facts_table, number, render
from tests.load.targets import Verdict, judge
from tests.load.workloads import WORKLOADS, Kind, Sizes, Target


def runs(*rates: float) -> list[Figures | None]:
    return [{"deliveries_per_s": rate, "cpu_s_per_million": 1e6 / rate, "missing": 0} for rate in rates]


def result(*, judged: bool = True) -> Result:
    found = Result(WORKLOADS["W1"], 1000, 500, judged=judged)
    found.runs = {"ours": runs(2e6, 3e6, 4e6), "nats": runs(1e6, 1e6, 1e6), "nchan": runs(2.5e5, 2.5e5, 2.5e5)}
    return found


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.314, 2, "0.31"), (2_840_000, None, "2.84M"), (76_500, None, "76.5k"), (512, None, "512"), (49.8, 0, "50")],
)
def test_a_figure_is_as_exact_as_it_is_worth(value: float, decimals: int | None, text: str) -> None:
    assert number(value, decimals) == text


def test_a_cell_has_the_range_where_there_is_one() -> None:
    assert cell(Spread(2.0, 1.0, 3.0), 1) == "2.0 (1.0..3.0)"
    assert cell(Spread(2.0, 2.0, 2.0), 1) == "2.0"
    assert cell(None, 1) == "-"


def test_columns_are_aligned() -> None:
    assert aligned([["", "a"], ["ours", "12.5"]]) == ["         a", "ours  12.5"]


def test_a_table_compares_each_peer_by_the_first_metric() -> None:
    lines = render(result()).splitlines()
    assert lines[0] == "W1: broadcast to 1,000 WebSockets on one channel, saturated"
    assert lines[2].split()[:3] == ["ours", "3M", "(2M..4M)"]
    assert lines[3].split()[-3:] == ["3", "x", "none"]
    assert lines[4].split()[-3:] == ["12", "x", "none"]


def test_targets_stand_below_their_workload_met_or_not() -> None:
    text = render(result())
    assert "target: deliveries/s >= 2.5 x nats: 3 x nats, met" in text
    assert "target: deliveries/s >= 10 x nchan: 12 x nchan, met" in text
    assert "target: deliveries/s >= 50 x hand: no hand here" in text


def test_a_quick_run_judges_nothing() -> None:
    assert "target" not in render(result(judged=False))
    assert as_json(result(judged=False))["targets"] == []


def test_faults_are_named_in_their_row() -> None:
    found = result()
    found.runs["nats"] = [{"deliveries_per_s": 1e6, "missing": 3}, None, None]
    assert "3 missing, 2 failed" in render(found)


def test_a_peer_without_figures_is_shown_without_them() -> None:
    found = result()
    found.runs["nats"] = [None, None, None]
    assert render(found).splitlines()[3].split() == ["nats", *["-"] * 6, "3", "failed"]


def test_the_json_holds_every_run_and_what_became_of_each_target() -> None:
    found = json.loads(json.dumps(as_json(result())))
    assert [run["deliveries_per_s"] for run in found["runs"]["ours"]] == [2e6, 3e6, 4e6]
    assert [(target["peer"], target["met"]) for target in found["targets"]] == [
        ("nats", True),
        ("nchan", True),
        ("hand", None),
    ]


@pytest.mark.parametrize(("relation", "met"), [(">=", True), ("<=", True)])
def test_a_bound_is_met_where_it_is_reached_exactly(relation: str, met: bool) -> None:
    assert Verdict(Target("p99_ms", relation, 10), 10.0).is_met is met


def test_a_bound_is_not_met_beyond_it() -> None:
    [verdict] = judge([Target("p99_ms", "<=", 10)], {"ours": [{"p99_ms": 10.1}]})
    assert verdict.is_met is False
    assert str(verdict) == "p99 ms <= 10: 10.1, not met"


def test_what_was_not_measured_is_neither() -> None:
    [verdict] = judge([Target("p99_ms", "<=", 10)], {"ours": [None]})
    assert verdict.is_met is None
    assert str(verdict) == "p99 ms <= 10: not measured"


def test_every_workload_shows_what_its_targets_are_about() -> None:
    for workload in WORKLOADS.values():
        assert {target.metric for target in workload.targets} <= set(workload.metrics)
        assert {target.peer for target in workload.targets} <= {None, *workload.peers}
        assert (workload.rate > 0) == (workload.kind in (Kind.PACED, Kind.STALL))


def test_a_workload_is_as_large_as_its_kind_says() -> None:
    sizes = Sizes(connections=7, idle=8, storm=9)
    assert [sizes.of(WORKLOADS[name]) for name in ("W0", "W1", "W4", "W5")] == [1, 7, 8, 9]


def test_growth_has_a_row_for_each_size() -> None:
    points = [Point(WORKLOADS["W1"], 100, tuple(runs(1e6))), Point(WORKLOADS["W2"], 1, (None,))]
    lines = render_growth(points, Spread(55.0, 50.0, 60.0)).splitlines()
    assert lines[2].split()[:6] == ["W1", "100", "connections", "on", "one", "channel"]
    assert lines[3].split()[-3:] == ["-", "-", "-"]
    assert lines[-1].strip() == "a subscription: 55 (50..60) us of the servers' core"


def test_the_facts_are_a_line_each() -> None:
    assert facts_table({"cores": "2", "kernel": "Linux"}) == "cores   2\nkernel  Linux"
