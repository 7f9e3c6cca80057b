"""The hub's three servers and a region's, from deploy/nats as it is: ports and certificates come by environment."""

import asyncio
import contextlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.local.embedded import find_binary, free_port
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.waiting import until

FOLDER = Path(__file__).parents[2] / "deploy" / "nats"
HUBS = ("hub-1", "hub-2", "hub-3")
PASSWORD = "a-password-of-the-tests"


@dataclass
class Server:
    """One nats-server of a configuration in deploy/nats."""

    name: str
    config: Path
    environment: Mapping[str, str]
    port: int
    monitor_port: int
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Where services connect."""
        return f"tls://services:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start; it is healthy some time later."""
        with self.log.open("ab") as writer:
            self.process = subprocess.Popen(
                [find_binary(), "-c", str(self.config)],
                env={**os.environ, **self.environment},
                stdout=subprocess.DEVNULL,
                stderr=writer,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def healthy(self, seconds: float = 40) -> None:
        """Wait until it serves, JetStream included."""

        def is_so() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-1000:]
            return self.get("/healthz") is not None

        await until(lambda: asyncio.to_thread(is_so), seconds=seconds, what=f"{self.name} is healthy")

    def get(self, path: str) -> dict[str, object] | None:
        """A page of its monitoring port; None where it has none now."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}{path}", timeout=2) as answer,
        ):
            found: dict[str, object] = json.load(answer)
            return found
        return None


@dataclass(frozen=True, slots=True)
class Deployment:
    """The servers of a hub, and how regions are added."""

    folder: Path
    certificates: Certificates
    hub: Mapping[str, Server]
    leaf_ports: Sequence[int]

    def region(self, name: str, leaf_ports: Sequence[int] | None = None) -> Server:
        """A region's server, not started; it reaches the hub on these ports of 127.0.0.1."""
        urls = [f"tls://region:{PASSWORD}@127.0.0.1:{port}" for port in leaf_ports or self.leaf_ports]
        told = {"NATS_REGION": _text(name), "NATS_HUB_URLS": json.dumps(urls)}
        return _server(self.folder, name, FOLDER / "region.conf", self.certificates, told)


@contextlib.contextmanager
def deployment(folder: Path) -> Iterator[Deployment]:
    """A hub of three, started; `healthy()` waits for them. Regions are the caller's to end."""
    certificates = make_certificates(folder / "certificates")
    routes = {name: free_port() for name in HUBS}
    leaves = {name: free_port() for name in HUBS}
    servers = {}
    for name in HUBS:
        told = {
            "NATS_CLUSTER_LISTEN": _text(f"127.0.0.1:{routes[name]}"),
            "NATS_CLUSTER_ROUTES": json.dumps([f"tls://127.0.0.1:{port}" for port in routes.values()]),
            "NATS_LEAF_LISTEN": _text(f"127.0.0.1:{leaves[name]}"),
            "NATS_REGION_PASSWORD": _text(PASSWORD),
        }
        servers[name] = _server(folder, name, FOLDER / f"{name}.conf", certificates, told)
    try:
        for server in servers.values():
            server.start()
        yield Deployment(folder, certificates, servers, tuple(leaves.values()))
    finally:
        for server in servers.values():
            server.kill()


def _server(folder: Path, name: str, config: Path, certificates: Certificates, told: Mapping[str, str]) -> Server:
    port, monitor_port = free_port(), free_port()
    environment = {
        "NATS_LISTEN": _text(f"127.0.0.1:{port}"),
        "NATS_MONITOR_LISTEN": _text(f"127.0.0.1:{monitor_port}"),
        "NATS_STORE": _text(str(folder / name)),
        "NATS_STORE_BYTES": "4GB",
        "NATS_CERT_FILE": _text(str(certificates.certificate)),
        "NATS_KEY_FILE": _text(str(certificates.key)),
        "NATS_CA_FILE": _text(str(certificates.authority)),
        "NATS_SERVICES_PASSWORD": _text(PASSWORD),
        "NATS_ADMIN_PASSWORD": _text(PASSWORD),
        **told,
    }
    return Server(name, config, environment, port, monitor_port, folder / f"{name}.log")


def _text(value: str) -> str:
    """A value as nats-server reads it from the environment: else a port would be a number, an address no text."""
    return json.dumps(value)
