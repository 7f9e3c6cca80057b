"""Ready means: it answers 200 now."""

import socket

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.chassis.server import address, listen
from services.local import readiness
from services.local.readiness import is_ready
from tests.harness.asgi import serving


async def test_only_200_is_ready() -> None:
    async def answer(request: Request) -> Response:
        return Response(status_code=int(request.path_params["code"]))

    async with serving(Starlette(routes=[Route("/{code}", answer)])) as url:
        assert await is_ready(f"{url}/200")
        assert not await is_ready(f"{url}/503")
        assert not await is_ready(f"{url}/404")


async def test_nobody_there_is_not_ready() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not await is_ready(f"http://127.0.0.1:{closed.getsockname()[1]}/readyz")


async def test_a_socket_that_nobody_serves_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_TIMEOUT_SECONDS", 0.05)
    with listen("127.0.0.1", 0) as listener:
        assert not await is_ready(f"{address(listener)}/readyz")
