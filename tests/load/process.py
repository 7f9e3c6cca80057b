"""Processes of a run: started on their core, ended by pid, and what they used, read from /proc.

Each is put on the leash of `services.local.leash`: it does not outlive the bench, however that ends.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.local import leash
from tests.load.machine import on_core

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessFailed(Exception):
    """A process did not start or did not do its work; one line with the last that it said."""


class Process:
    """One child of the bench."""

    def __init__(
        self,
        command: list[str],
        *,
        core: int | None,
        log: Path,
        environment: Mapping[str, str] | None = None,
        pipe: bool = False,
    ) -> None:
        """`log` takes its standard error, and its standard output unless that is wanted as a `pipe`."""
        self.name = log.stem
        self.log = log
        program = shutil.which(command[0]) or command[0]
        leashed = [sys.executable, "-I", leash.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "0", program]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("A2A_")}
        with log.open("ab") as writer, on_core(core):
            self.popen = subprocess.Popen(
                [*leashed, *command[1:]],
                cwd=ROOT,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else writer,
                stderr=writer,
                text=True,
                start_new_session=True,  # a Ctrl-C in the terminal is the bench's to handle
            )

    @property
    def pids(self) -> list[int]:
        """Itself and what it started."""
        return family(self.popen.pid)

    def wait_for_port(self, port: int) -> None:
        """Wait until it accepts connections.

        Raises:
            ProcessFailed: it ended before, or took too long.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not _accepts(port):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise self.failure("did not start")
            time.sleep(0.02)

    def failure(self, what: str) -> ProcessFailed:
        """The error that ends with what it said last."""
        said = self.log.read_text(errors="replace").strip().splitlines()[-2:]
        return ProcessFailed(f"{self.name} {what}: {' | '.join(said) or 'it said nothing'}")

    def stop(self) -> None:
        """End it and what it started. Idempotent."""
        pids = self.pids
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes have used, kernel included."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def core_seconds(core: int) -> float:
    """How long a core has been busy, softirqs included: what no process is charged for is a server's cost too."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _, _, irq, softirq, *_ = map(int, line.split()[1:])
            return (user + nice + system + irq + softirq) / _TICKS
    return 0.0


def resident_kib(pids: Iterable[int]) -> int:
    """Resident memory of these processes."""
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    found += int(line.split()[1])
    return found
