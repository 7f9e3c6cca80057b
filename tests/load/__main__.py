"""`python -m tests.load`: run workloads against peers, print a table of each, and stop everything."""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tests.load import growth, table
from tests.load.build import NoCompiler, load_client
from tests.load.figures import Figures
from tests.load.machine import Cores, NotEnoughFiles, allow_open_files, choose_cores, facts
from tests.load.natsline import PreloadFailed
from tests.load.options import Options, parse
from tests.load.peers.peer import Peer, Place
from tests.load.peers.registry import peers
from tests.load.process import ProcessFailed
from tests.load.scenarios import run
from tests.load.table import Result
from tests.load.workloads import WORKLOADS, Workload

_INTERRUPTED = 130
# Between two runs, for the kernel to be done with the sockets of the one before.
_PAUSE_SECONDS = 0.3


class Bench:
    """One call of the bench."""

    def __init__(self, options: Options, binary: Path, cores: Cores) -> None:
        self._options = options
        self._binary = binary
        self._cores = cores
        self._peers = {name: peer for name, peer in peers(options.peer_python).items() if name in options.peers}
        # Whether every run gave figures.
        self.is_whole = True

    def leave_out_missing(self) -> dict[str, str]:
        """Forget the peers that are not here; why."""
        missing = {name: why for name, peer in self._peers.items() if (why := peer.missing()) is not None}
        self._peers = {name: peer for name, peer in self._peers.items() if name not in missing}
        return missing

    def measure(self, workload: Workload) -> Result:
        """All rounds; within a round one peer after the other, so that they have the same weather."""
        chosen = [name for name in workload.peers if name in self._peers]
        sizes = self._options.sizes
        result = Result(workload, sizes.of(workload), sizes.behind, {name: [] for name in chosen})
        result.judged = not self._options.quick
        for number in range(self._options.runs):
            for name in chosen:
                _tell(f"{workload.name} {name} {number + 1}/{self._options.runs}")
                result.runs[name].append(self._once(workload, self._peers[name]))
        _tell("")
        return result

    def once(self, workload: Workload) -> Figures | None:
        """One run of the gateway."""
        _tell(f"{workload.name} {self._options.sizes.of(workload):,}")
        return self._once(workload, self._peers["ours"])

    def _once(self, workload: Workload, peer: Peer) -> Figures | None:
        try:
            allow_open_files(self._options.sizes.of(workload))
            with tempfile.TemporaryDirectory(prefix="a2a-bench-", ignore_cleanup_errors=True) as folder:
                return run(workload, self._options.sizes, peer, Place(Path(folder), self._cores, self._binary))
        except (ProcessFailed, NotEnoughFiles, PreloadFailed, OSError) as error:
            _tell("")
            print(f"{workload.name} {peer.name}: {error}", file=sys.stderr)
            self.is_whole = False
            return None
        finally:
            time.sleep(_PAUSE_SECONDS)


def _tell(what: str) -> None:
    """What is going on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{what:60}\r", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stopping_in_order(cores: Cores) -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does, so that every process is stopped; this process leaves the servers' core alone."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if cores.client is not None:
        os.sched_setaffinity(0, {cores.client})
    yield


def bench(options: Options, binary: Path, cores: Cores) -> int:
    """Run and print."""
    found: dict[str, object] = {"machine": facts(cores), "runs": options.runs}
    print(table.facts_table(facts(cores)))
    if options.quick:
        print("--quick: shows that it works; its figures are no measurement")
    one = Bench(options, binary, cores)
    missing = one.leave_out_missing()
    for name, why in missing.items():
        print(f"left out: {name} {why}")
    found["left_out"] = missing
    results = []
    for name in options.workloads:
        result = one.measure(WORKLOADS[name])
        if result.runs:
            print(f"\n{table.render(result)}", flush=True)
            results.append(table.as_json(result))
    found["workloads"] = results
    if options.growth and "ours" not in missing:
        grown = growth.points(one.once, options.runs, quick=options.quick)
        subscribing = growth.subscription(one.once, options.runs, options.sizes)
        _tell("")
        print(f"\n{growth.render(grown, subscribing)}")
        found["growth"] = growth.as_json(grown, subscribing)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if one.is_whole else 1


def main() -> int:
    """The command; 2 where it cannot begin."""
    options = parse()
    if options.growth and "ours" not in options.peers:
        options = replace(options, peers=("ours", *options.peers))
    cores = choose_cores()
    try:
        binary = load_client()
        with _stopping_in_order(cores):
            return bench(options, binary, cores)
    except NoCompiler as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
