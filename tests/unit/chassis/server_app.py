"""A service of a few lines, run by the tests of `services.chassis.server` as a process of its own."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.chassis.server import CannotListen, address, listen, run
from services.chassis.settings import refuse
from services.chassis.telemetry import configure_logging


async def pid(_: Request) -> Response:
    return PlainTextResponse(str(os.getpid()))


async def never(_: Request) -> Response:
    signal.raise_signal(signal.SIGTERM)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    if "BROKEN" in os.environ:
        raise RuntimeError("does not start")
    yield
    print("ended in order", flush=True)


def main() -> None:
    configure_logging("test", "error")
    given = os.environ.get("A2A_HTTP_FD")
    try:
        listener = listen("127.0.0.1", int(os.environ.get("A2A_HTTP_PORT", "0")), int(given) if given else None)
    except CannotListen as error:
        refuse(str(error))
    print(address(listener), flush=True)
    app = Starlette(routes=[Route("/pid", pid), Route("/never", never)], lifespan=lifespan)

    def leave(done: Callable[[], None]) -> Callable[[], None]:
        print("told of the signal", flush=True)
        if "LINGERS" not in os.environ:
            done()
        return done

    run(app, listener, graceful_seconds=int(os.environ.get("GRACE", "1")), leave=leave)


if __name__ == "__main__":
    main()
