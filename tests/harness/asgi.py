"""A Starlette app in this process behind a real uvicorn on a free port: real sockets and HTTP, no process to start."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from services.chassis.server import address, descriptors, listen


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        # Set once the lifespan has begun and connections are taken.
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # Ctrl-C is pytest's


@contextlib.asynccontextmanager
async def serving(app: Starlette, *, graceful_seconds: int = 3, **config: Any) -> AsyncIterator[str]:
    """The URL at which `app` is served, its lifespan run, until the block ends; `config` is uvicorn's.

    The socket listens before anything runs, so a client may connect at once: it waits in the backlog.
    """
    listener = listen("127.0.0.1", 0)
    server = _Server(
        uvicorn.Config(
            app,
            **{"http": "httptools", "ws": "none", "lifespan": "on", "log_config": None, "access_log": False, **config},
            timeout_graceful_shutdown=graceful_seconds,
        )
    )
    running = asyncio.create_task(server.serve(descriptors(listener)))
    up = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait((running, up), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            raise AssertionError("the app's lifespan did not start")
        yield address(listener)
    finally:
        up.cancel()
        server.should_exit = True
        await running
        listener.close()
