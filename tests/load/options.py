"""The command line of the bench, parsed and judged. Pure."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.load.peers.registry import NAMES
from tests.load.workloads import QUICK, WORKLOADS, Sizes

_EPILOG = """\
workloads:
{workloads}

examples:
  task bench -- W1,W2 --peers ours,nchan        two workloads beside one peer
  task bench -- --quick                         everything small and once: does it work?
  task bench -- --runs 5 --json figures.json    for the record, on a machine that does nothing else
  task bench -- --growth                        what a delivery costs as connections and channels grow

Everything stays on 127.0.0.1 and is stopped at the end, also by Ctrl-C. A peer that is not installed is named
and left out. Targets are judged, never enforced: the exit code is 1 only where something could not be run.
docs/performance.md says how to read the figures.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be run."""

    workloads: tuple[str, ...]
    peers: tuple[str, ...]
    peer_python: str
    runs: int
    sizes: Sizes
    json: Path | None
    growth: bool
    quick: bool


def _names(known: Sequence[str]) -> "type[tuple[str, ...]]":
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return parse  # type: ignore[return-value]  # argparse wants a callable, and calls it


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:8} {one.title.format(n='N', behind=500)}" for name, one in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.load",
        description="Measures the gateway beside its peers: fan-out, memory, storms, replays, stalled clients.",
        epilog=_EPILOG.format(workloads=lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workloads",
        nargs="?",
        type=_names(tuple(WORKLOADS)),
        metavar="WORKLOAD,...",
        help="default: all, or none with --growth",
    )
    parser.add_argument(
        "--peers", type=_names(NAMES), default=NAMES, metavar="PEER,...", help="default: ours,nats,nchan,hand"
    )
    parser.add_argument("--runs", type=_positive, help="rounds of each workload (default: 3)")
    parser.add_argument("--duration", type=float, help="seconds of each measurement (default: 4)")
    parser.add_argument("--connections", type=_positive, help="of W1 to W3L (default: 1000)")
    parser.add_argument("--idle", type=_positive, help="connections of W4 (default: 10000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's figures there")
    parser.add_argument("--growth", action="store_true", help="cost of a delivery and of a subscription, by size")
    parser.add_argument("--quick", action="store_true", help="small and once: shows that it works, judges nothing")
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="PYTHON", help="runs the hand-written peer (default: this one)"
    )
    return parser


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; ends the process with its own message where it is wrong."""
    given = _parser().parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    for name, value in (("connections", given.connections), ("idle", given.idle), ("seconds", given.duration)):
        if value is not None:
            sizes = replace(sizes, **{name: value})
    return Options(
        workloads=given.workloads or (() if given.growth else tuple(WORKLOADS)),
        peers=given.peers,
        peer_python=given.peer_python,
        runs=given.runs or (1 if given.quick else 3),
        sizes=sizes,
        json=given.json,
        growth=given.growth,
        quick=given.quick,
    )
