"""Problems over HTTP: a `Problem` as problem+json (RFC 9457), and Starlette's own errors in the same form.

Decides the headers that follow from a code, so that no route forgets one: `Retry-After` and
`WWW-Authenticate`. Never decides that something is refused.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from contracts.errors import ErrorCode, Problem, Refused

MEDIA_TYPE = "application/problem+json"
_OF_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.MESSAGE_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}

Handler = Callable[[Request, Exception], Awaitable[Response]]


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None, **fields: Any) -> Response:
    """The answer that tells `problem`; `fields` are further members of the object (RFC 9457 §3.2)."""
    return JSONResponse(
        {**problem.as_http(), **fields},
        problem.code.status,
        {**implied_headers(problem), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def implied_headers(problem: Problem) -> dict[str, str]:
    """The headers that follow from a problem's code."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(problem.retry_after_ms / 1000))
    if problem.code.status == 401:
        # RFC 6750 §3.1: a request that bore no token is told the scheme and nothing else.
        bare = problem.code is ErrorCode.UNAUTHENTICATED
        headers["WWW-Authenticate"] = "Bearer" if bare else 'Bearer error="invalid_token"'
    return headers


async def _on_refused(_: Request, error: Exception) -> Response:
    return problem_response(cast(Refused, error).problem)


async def _on_http_error(_: Request, found: Exception) -> Response:
    error = cast(HTTPException, found)
    other = ErrorCode.INTERNAL if error.status_code >= 500 else ErrorCode.INVALID_MESSAGE
    code = _OF_STATUS.get(error.status_code, other)
    # `Allow` of a 405 comes this way; Starlette's own detail for a known status says no more than the code does.
    return problem_response(Problem(code, "" if code is not other else error.detail), error.headers)


async def _on_bug(_: Request, error: Exception) -> Response:
    return problem_response(Problem(ErrorCode.INTERNAL, "the service failed; its log says how"))


# For `Starlette(exception_handlers=...)`. A bug is answered and then raised again, so that the server logs its trace.
EXCEPTION_HANDLERS: Mapping[Any, Handler] = {
    Refused: _on_refused,
    HTTPException: _on_http_error,
    Exception: _on_bug,
}
