"""The load client as a child: its command, its two lines of output, and what a run of it costs the servers."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load.machine import Cores
from tests.load.process import Process, core_seconds, cpu_seconds, resident_kib

_READY_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Used:
    """What servers had used at one moment."""

    at: float
    cpu_seconds: float
    # Of their whole core, work that no process is charged for included; None where they have none of their own.
    core_seconds: float | None
    resident_kib: int

    @staticmethod
    def now(servers: Iterable[Process], cores: Cores) -> "Used":
        """Read it."""
        pids = [pid for server in servers for pid in server.pids]
        core = None if cores.server is None else core_seconds(cores.server)
        return Used(time.monotonic(), cpu_seconds(pids), core, resident_kib(pids))

    def cost_since(self, before: "Used") -> float:
        """Seconds of the servers' core between two moments; of their processes alone where they share it."""
        if self.core_seconds is None or before.core_seconds is None:
            return self.cpu_seconds - before.cpu_seconds
        return self.core_seconds - before.core_seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the load client: what it said, and what the servers used before, when all were ready, and after."""

    said: Mapping[str, Any]
    before: Used
    ready: Used
    after: Used
    # What the workload found out meanwhile.
    found: Mapping[str, float] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """A figure of the client's."""
        return float(self.said[name])

    @property
    def closes(self) -> dict[str, int]:
        """How many connections were closed with which code."""
        return {str(code): int(count) for code, count in self.said["closes"].items()}


class Fan:
    """A running load client."""

    def __init__(self, binary: Path, arguments: list[str], core: int | None, folder: Path) -> None:
        self.process = Process([str(binary), *arguments], core=core, log=folder / "load client.log", pipe=True)

    def line(self) -> str:
        """Its next line; it ends by itself at its `--max-time`."""
        assert self.process.popen.stdout is not None
        return str(self.process.popen.stdout.readline())

    def end(self) -> None:
        """Ask for its report."""
        self.process.popen.terminate()

    def stall(self) -> None:
        """Some connections stop reading."""
        self.process.popen.send_signal(signal.SIGUSR1)

    def wake(self) -> None:
        """They read again."""
        self.process.popen.send_signal(signal.SIGUSR2)


def measure(
    binary: Path,
    arguments: list[str],
    servers: list[Process],
    cores: Cores,
    folder: Path,
    meanwhile: Callable[[Fan], Mapping[str, float]] | None = None,
) -> Measured:
    """Run the load client; `meanwhile` is called once all connections are ready.

    Raises:
        ProcessFailed: it ended without a report.
    """
    before = Used.now(servers, cores)
    fan = Fan(binary, arguments, cores.client, folder)
    try:
        line = fan.line()
        ready = Used.now(servers, cores)
        found: Mapping[str, float] = {}
        if line.startswith("READY"):
            found = meanwhile(fan) if meanwhile is not None else {}
            line = fan.line()
        after = Used.now(servers, cores)
        if not line.startswith("{"):
            raise fan.process.failure("gave no report")
        fan.process.popen.wait(_READY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise fan.process.failure("did not end") from error
    finally:
        fan.process.stop()
    return Measured(json.loads(line), before, ready, after, found)
