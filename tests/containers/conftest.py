"""A container engine, or a skip that says how to have one."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from services.local.embedded import free_port
from tests.harness.dealing import WEBHOOK_SECRET
from tests.harness.tokens import SECRET

SERVED = ("gateway", "ingest", "deals", "orders", "payments", "plans")
ROOT = Path(__file__).parents[2]
BUILD_SECONDS, UP_SECONDS = 900, 180
HOW = "no container engine answers: install Docker, start it, and run `pytest -m containers`"


def said(
    command: tuple[str, ...], *, environment: Mapping[str, str] | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; its exit code and what it says."""
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


class Compose:
    """One project of the checkout's docker-compose.yml, on free ports."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = (*command, "--project-name", f"a2a{uuid.uuid4().hex[:8]}")
        ports = {service: free_port() for service in SERVED}
        self.urls = {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}
        self.gateway, self.ingest = self.urls["gateway"], self.urls["ingest"]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("A2A_") or "BUILD" in name},
            "A2A_JWT_HS256_SECRET": SECRET,
            "A2A_PAYMENT_WEBHOOK_SECRET": WEBHOOK_SECRET,
            **{f"A2A_{service.upper()}_PORT": f"127.0.0.1:{port}" for service, port in ports.items()},
            "A2A_MARKET_MAX_BYTES": str(64 * 1024**2),
        }

    def run(self, *arguments: str, seconds: float = UP_SECONDS, without: str = "") -> subprocess.CompletedProcess[str]:
        """Run compose; what it says is in the result, whatever its exit code. `without`: a variable to leave out."""
        environment = {name: value for name, value in self.environment.items() if name != without}
        command = (*self._command, *arguments)
        return said(command, environment=environment, seconds=seconds)

    def do(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Run compose; what it says where it succeeds."""
        found = self.run(*arguments, seconds=seconds)
        assert found.returncode == 0, f"compose {arguments[0]}: {(found.stdout + found.stderr)[-2000:]}"
        return found.stdout

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.do("ps", "-q", service).strip()


def docker(*arguments: str) -> str:
    """What `docker` says."""
    found = said(("docker", *arguments))
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where no container engine answers."""
    if shutil.which("docker") is None or said(("docker", "info")).returncode != 0:
        pytest.skip(HOW)


@pytest.fixture(scope="session")
def compose_command(engine: None) -> tuple[str, ...]:
    """`docker compose`, or the older `docker-compose`."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) and said((*command, "version")).returncode == 0:
            return command
    pytest.skip("no Compose: install docker-compose-plugin, or docker-compose")


@pytest.fixture(scope="module")
def system(compose_command: tuple[str, ...]) -> Iterator[Compose]:
    """The whole system in containers, ready; gone afterwards with its volume and images."""
    compose = Compose(compose_command)
    try:
        compose.do("build", seconds=BUILD_SECONDS)
        compose.do("up", "--detach")
        for url in compose.urls.values():
            _wait_until_ready(url)
        yield compose
    finally:
        compose.run("down", "--volumes", "--rmi", "local", "--timeout", "5")


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + UP_SECONDS
    answer = "nothing"
    while time.monotonic() < deadline:
        try:
            found = httpx.get(f"{url}/readyz", timeout=5)
        except httpx.HTTPError as error:  # the port is published before anything listens behind it
            answer = repr(error)
        else:
            if found.status_code == 200:
                return
            answer = found.text
        time.sleep(0.1)
    raise AssertionError(f"{url} did not become ready: {answer}")
