"""The machine: which cores carry what, how many files may be open, and the facts a figure is worth nothing without.

Server processes share one core and the load client has another, so that a figure is the cost of serving.
"""

import contextlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from services.local.embedded import NatsNotFound, find_binary

_SPARE_FILES = 200


class NotEnoughFiles(Exception):
    """A workload needs more open files than this process may have; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where servers and the load client run; None where nothing is pinned."""

    server: int | None
    client: int | None

    @property
    def are_pinned(self) -> bool:
        """Whether servers have a core of their own."""
        return self.server is not None

    def __str__(self) -> str:
        if self.server is None:
            return "unpinned (one core, or no affinity here): figures include the load client"
        return f"servers on core {self.server}, load client and publisher on core {self.client}"


def choose_cores() -> Cores:
    """The first two cores this process may use."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return Cores(allowed[0], allowed[1]) if len(allowed) > 1 else Cores(None, None)


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Children started within run on `core`: affinity is inherited."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_open_files(connections: int) -> None:
    """Raise the limit of open files to what `connections` need, for children too.

    Raises:
        NotEnoughFiles: the hard limit is below that.
    """
    wanted = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    try:
        # Above the hard limit for a privileged user only.
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard if hard == unlimited else max(wanted, hard)))
    except (ValueError, OSError) as error:
        raise NotEnoughFiles(
            f"{connections} connections need {wanted} open files and the hard limit is {hard}; "
            f"raise it (ulimit -Hn {wanted}) or ask for fewer with --connections and --idle"
        ) from error


def facts(cores: Cores) -> dict[str, str]:
    """What the figures were measured on and with."""
    found = {
        "cores": f"{os.cpu_count()}, {cores}",
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "nats-server": _nats_version(),
        "commit": _said(["git", "describe", "--always", "--dirty"]) or "unknown",
    }
    for package in ("uvicorn", "uvloop", "httptools", "nats-py", "msgspec"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if sys.flags.optimize:
        found["python flags"] = "-O"
    return found


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _nats_version() -> str:
    try:
        return (_said([find_binary(), "--version"]) or "unknown").rpartition(" ")[2]
    except NatsNotFound:
        return "not installed"


def _said(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
