"""The HTTP server under each service: one socket, uvicorn, a clean end.

Decides how a taken port is told and that SIGTERM ends with code 0 (uvicorn itself re-raises it).
"""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from services.chassis.http import BoundedHttp
from services.chassis.telemetry import logger

# Connections waiting to be accepted: a reconnect storm arrives in one burst.
_BACKLOG = 4096
# How many are accepted in one turn of the loop: what many go through together stays in the processor's caches.
ACCEPTED_A_TURN = 16
EXIT_NOT_STARTED = 3

# Told of the first signal, with what to call once the service may stop; what it returns is called by the second.
Leave = Callable[[Callable[[], None]], Callable[[], None]]


class CannotListen(Exception):
    """The address is taken or not ours; the message is one line that says what to do."""


def listen(host: str, port: int, inherited_fd: int | None = None) -> socket.socket:
    """A listening socket: the supervisor's where it passed one, else bound here.

    Raises:
        CannotListen: with what to do about it.
    """
    if inherited_fd is not None:
        try:
            return socket.socket(fileno=inherited_fd)
        except OSError as error:
            raise CannotListen(f"A2A_HTTP_FD: {inherited_fd} is no open socket: {error.strerror}") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle off only where it is: else each small answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken; stop what listens there or choose another port" if taken else f"cannot be used: {error}"
        raise CannotListen(
            f"{'A2A_HTTP_PORT' if taken else 'A2A_HTTP_HOST, A2A_HTTP_PORT'}: {host}:{port} {why}"
        ) from error
    return listener


def descriptors(listener: socket.socket) -> list[socket.socket]:
    """The same socket as often as connections are to be accepted in a turn: libuv takes one from each (ADR 0044)."""
    return [listener, *(listener.dup() for _ in range(ACCEPTED_A_TURN - 1))]


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that leaves as the service says, and ends with code 0 on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, leave: Leave | None) -> None:
        super().__init__(config)
        self._leave = leave
        # What has a leaving service wait for nothing more; None before the first signal.
        self._hurry: Callable[[], None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self.should_exit:
            self.force_exit = self.force_exit or number == signal.SIGINT  # Ctrl-C again waits for nobody
        elif self._hurry is not None:
            self._hurry()
        elif self._leave is None:
            self._exit()
        else:
            self._hurry = self._leave(self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def run(
    app: Starlette,
    listener: socket.socket,
    *,
    http: type[BoundedHttp] = BoundedHttp,
    graceful_seconds: int = 3,
    leave: Leave | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, and as long as `leave` then takes; what still runs has `graceful_seconds` to end.

    Raises:
        SystemExit: the app did not start; its log says why.
    """
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        loop="uvloop",
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=graceful_seconds,
        timeout_keep_alive=30,
    )
    logger("services.chassis.server").info("listening", url=address(listener))
    server = _Server(config, leave)
    server.run(descriptors(listener))
    if not server.started:
        raise SystemExit(EXIT_NOT_STARTED)
