from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.errors import ErrorCode, Problem, Refused
from services.chassis.problems import EXCEPTION_HANDLERS, problem_response


async def _refuse(_: Request) -> Response:
    raise Refused(Problem(ErrorCode.RATE_LIMITED, "slow down", 1001))


async def _crash(_: Request) -> Response:
    raise RuntimeError("a secret of the inside")


async def _fail(request: Request) -> Response:
    raise HTTPException(int(request.path_params["status"]), "why", {"X-Why": "so"})


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    routes = [Route("/refuse", _refuse), Route("/crash", _crash), Route("/fail/{status}", _fail)]
    app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def problem(answer: httpx.Response) -> Any:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["status"] == answer.status_code
    return answer.json()


@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, "0"), (1, "1"), (1000, "1"), (1001, "2")])
def test_retry_after_is_whole_seconds_and_never_too_early(milliseconds: int, seconds: str) -> None:
    answer = problem_response(Problem(ErrorCode.RATE_LIMITED, retry_after_ms=milliseconds))
    assert answer.headers["retry-after"] == seconds


def test_without_a_time_there_is_no_retry_after() -> None:
    assert "retry-after" not in problem_response(Problem(ErrorCode.RATE_LIMITED)).headers


@pytest.mark.parametrize("code", [code for code in ErrorCode if code.status == 401])
def test_a_401_names_its_scheme(code: ErrorCode) -> None:
    assert problem_response(Problem(code)).headers["www-authenticate"].startswith("Bearer")


def test_members_and_headers_of_ones_own_are_added() -> None:
    answer = problem_response(Problem(ErrorCode.INVALID_EVENT), {"X-Own": "1"}, pointer="/a")
    assert answer.headers["x-own"] == "1"
    assert b'"pointer":"/a"' in bytes(answer.body)


async def test_a_refusal_from_anywhere_is_told(http: httpx.AsyncClient) -> None:
    answer = await http.get("/refuse")
    assert problem(answer)["code"] == "rate_limited"
    assert answer.headers["retry-after"] == "2"


async def test_a_bug_is_told_without_its_inside(http: httpx.AsyncClient) -> None:
    answer = await http.get("/crash")
    assert problem(answer)["code"] == "internal"
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (404, "not_found", 404),
        (413, "message_too_large", 413),
        (415, "unsupported_media_type", 415),
        (418, "invalid_message", 400),
        (501, "internal", 500),
    ],
)
async def test_starlettes_own_errors_become_problems(
    status: int, code: str, told: int, http: httpx.AsyncClient
) -> None:
    answer = await http.get(f"/fail/{status}")
    assert (problem(answer)["code"], answer.status_code) == (code, told)
    assert answer.headers["x-why"] == "so"


async def test_an_unknown_address_and_a_wrong_method_are_problems(http: httpx.AsyncClient) -> None:
    assert problem(await http.get("/nowhere"))["code"] == "not_found"
    answer = await http.post("/refuse")
    assert problem(answer)["code"] == "method_not_allowed"
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
