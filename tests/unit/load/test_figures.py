"""Figures are summed up over runs, and peers compared within a round."""

import math

from tests.load.figures import Spread, faults, of, quantile, ratio, spread


def test_runs_are_summed_up_by_their_median_and_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_what_is_not_a_number_counts_for_nothing() -> None:
    assert spread([math.nan, 4.0]) == Spread(4.0, 4.0, 4.0)
    assert spread([math.nan]) is None
    assert spread([]) is None


def test_a_metric_is_read_from_the_runs_that_have_it() -> None:
    assert of([{"p99_ms": 2.0}, None, {"p50_ms": 1.0}, {"p99_ms": 4.0}], "p99_ms") == Spread(3.0, 2.0, 4.0)


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_round_changes_nothing() -> None:
    ours = [{"rate": 100.0}, {"rate": 10.0}, {"rate": 100.0}]
    theirs = [{"rate": 50.0}, {"rate": 5.0}, {"rate": 25.0}]
    assert ratio(ours, theirs, "rate") == Spread(2.0, 2.0, 4.0)


def test_a_round_that_failed_for_either_has_no_ratio() -> None:
    assert ratio([None, {"rate": 4.0}], [{"rate": 1.0}, {"rate": 2.0}], "rate") == Spread(2.0, 2.0, 2.0)
    assert ratio([{"rate": 4.0}], [None], "rate") is None
    assert ratio([{"rate": 4.0}], [{"rate": 0.0}], "rate") is None


def test_faults_are_summed_and_a_run_without_figures_is_one() -> None:
    assert faults([{"missing": 2, "dropped": 0}, None, {"missing": 1}]) == {"missing": 3, "failed": 1}
    assert faults([{"missing": 0}]) == {}


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert quantile(values, 0.5) == 51
    assert quantile(values, 0.99) == 100
    assert quantile(values, 1) == 100
    assert math.isnan(quantile([], 0.5))
