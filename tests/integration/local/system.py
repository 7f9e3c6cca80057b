"""`python -m services.local` as a process of its own, for those who test or measure the whole system."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.harness.tokens import SECRET

START_SECONDS = 30.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a system ended."""

    code: int
    seconds: float
    out: str
    err: str


class RunningSystem:
    """The system, started with `--json`; ready when made. Use as a context manager, or `stop` it."""

    def __init__(self, data: Path, *arguments: str, environment: Mapping[str, str | None] | None = None) -> None:
        """Start and wait for its line.

        Raises:
            AssertionError: it ended or said nothing; tells what it wrote on standard error.
        """
        self.process = start(data, "--json", "--port", "0", *arguments, environment=environment)
        self.data = data
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.process.kill()
            raise AssertionError(f"the system did not start: {self.process.communicate()[1]}")
        self.told: dict[str, Any] = json.loads(line)

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        return str(self.told["gateway"])

    def gateway_in(self, region: str | None) -> str:
        """The address of a region's gateway, or of the hub's."""
        return self.gateway if region is None else str(self.told["regions"][region]["gateway"])

    @property
    def ingest(self) -> str:
        """Where events are published."""
        return str(self.told["ingest"])

    def child(self, name: str) -> int:
        """The process id of one of its children, by what it runs."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], check=True, capture_output=True, text=True
        )
        (found,) = (line.split()[0] for line in listed.stdout.splitlines() if name in line)
        return int(found)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> Ended:
        """End it and tell how that went."""
        began = time.monotonic()
        self.process.send_signal(how)
        return ended(self.process, began)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


def start(data: Path, *arguments: str, environment: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
    """Start it and wait for nothing; a variable of `environment` that is None is not set."""
    variables = {**os.environ, "A2A_JWT_HS256_SECRET": SECRET, **(environment or {})}
    return subprocess.Popen(
        [sys.executable, "-m", "services.local", "--data", str(data), *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], began: float | None = None) -> Ended:
    """Wait for its end."""
    began = time.monotonic() if began is None else began
    try:
        out, err = process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Ended(process.returncode, time.monotonic() - began, out, err)
