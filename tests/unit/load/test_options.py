"""The command line of the bench."""

from pathlib import Path

import pytest

from tests.load.options import parse
from tests.load.workloads import QUICK, WORKLOADS


def test_without_arguments_everything_is_run() -> None:
    options = parse([])
    assert options.workloads == tuple(WORKLOADS)
    assert options.peers == ("ours", "nats", "nchan", "hand")
    assert (options.runs, options.sizes.seconds, options.sizes.connections) == (3, 4, 1000)


def test_workloads_and_peers_are_named_with_commas_and_run_once() -> None:
    options = parse(["W1, W2,W1", "--peers", "ours,nats"])
    assert options.workloads == ("W1", "W2")
    assert options.peers == ("ours", "nats")


def test_growth_alone_runs_no_workload_unless_one_is_named() -> None:
    assert parse(["--growth"]).workloads == ()
    assert parse(["W1", "--growth"]).workloads == ("W1",)


def test_quick_is_small_and_once_and_what_is_asked_for_still_holds() -> None:
    options = parse(["--quick"])
    assert (options.runs, options.sizes) == (1, QUICK)
    options = parse(["--quick", "--connections", "5", "--duration", "0.5", "--runs", "2", "--idle", "6"])
    assert (options.runs, options.sizes.connections, options.sizes.seconds, options.sizes.idle) == (2, 5, 0.5, 6)


def test_the_figures_go_to_a_file() -> None:
    assert parse(["--json", "figures.json"]).json == Path("figures.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["W9"], "W9 is none of W0, W1,"),
        (["--peers", "ours,redis"], "redis is none of ours, nats, nchan, hand"),
        (["--runs", "0"], "0 is no whole number of at least 1"),
        (["--connections", "-3"], "no whole number"),
    ],
)
def test_what_there_is_not_is_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_help_names_every_workload(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in WORKLOADS)
