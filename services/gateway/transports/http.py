"""History pages, long poll and the session cookie (PROTOCOL §4, §7)."""

import asyncio
import math
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from contracts.errors import ErrorCode, Problem, Refused
from services.chassis.problems import problem_response
from services.gateway.core.access import Grant
from services.gateway.core.history import HistoryPage, HistoryReader, Poll
from services.gateway.core.replay import Earliest, Start, start_of
from services.gateway.core.replica import Replica
from services.gateway.core.stream import Stream
from services.gateway.transports import takeover
from services.gateway.transports.identity import Identity, cookie_name, is_plain_loopback, token_of
from services.gateway.transports.parameters import number

_DEFAULT_LIMIT = 100
_LARGEST_LIMIT = 1000
_LONGEST_WAIT = 30.0
# Beside the wait: how long the reading itself may take.
_READ_SECONDS = 10.0
_PIECE_BYTES = 64 * 1024


class HttpEndpoints:
    """The gateway's plain HTTP routes."""

    def __init__(self, replica: Replica, identity: Identity) -> None:
        self._replica = replica
        self._identity = identity

    def routes(self) -> list[Route]:
        """For the application's router."""
        return [
            Route("/v1/channels/{channel}/events", self.history, methods=["GET"]),
            Route("/v1/session", self.open_session, methods=["POST"]),
            Route("/v1/session", self.close_session, methods=["DELETE"]),
        ]

    # History.

    async def history(self, request: Request) -> Response:
        """One page, or the first event within `wait` seconds."""
        principal = await self._identity.of_request(request)
        grant = self._replica.access.grant(principal, request.path_params["channel"])
        if isinstance(grant, Problem):
            raise Refused(grant)
        limit = int(number(request, "limit", _DEFAULT_LIMIT, 1, _LARGEST_LIMIT))
        wait = number(request, "wait", 0.0, 0.0, _LONGEST_WAIT)
        start = _start(request)
        stream = self._replica.streams[grant.stream]
        if not stream.is_open:
            raise Refused(
                Problem(ErrorCode.REPLAY_UNAVAILABLE, "this gateway has not reached the event store yet", 1000)
            )
        poll = Poll(principal, self._replica.new_id(), self._replica.dismiss)
        problem = self._replica.admit(principal, poll)
        if problem is not None:
            raise Refused(problem)
        try:
            page = await read_page(self._replica, request, stream, grant, start, limit=limit, wait=wait, poll=poll)
        except BaseException:
            poll.end()
            raise
        # The page is the principal's until it is sent, or the client has stopped taking it.
        return _PageResponse(_page_json(page), self._replica.limits.stall_seconds, poll.end)

    # The session cookie.

    async def open_session(self, request: Request) -> Response:
        """Put the bearer token into a cookie, so that a browser's EventSource and WebSocket can be authenticated."""
        self._require_own_page(request)
        token, from_cookie = token_of(request)
        if token is None or from_cookie:
            return problem_response(Problem(ErrorCode.UNAUTHENTICATED, "send the token as Authorization: Bearer"))
        principal = await self._identity.of_request(request)
        response = JSONResponse({"sub": principal.sub, "role": principal.role, "expires_at": int(principal.expires_at)})
        self._set_cookie(request, response, token, math.floor(principal.expires_at - self._replica.wall()))
        return response

    async def close_session(self, request: Request) -> Response:
        """Clear the cookie; no token is needed to leave."""
        self._require_own_page(request)
        response = Response(status_code=204)
        self._set_cookie(request, response, "", 0)
        return response

    def _require_own_page(self, request: Request) -> None:
        """Setting and clearing a cookie changes what a browser may do: only pages of allowed origins may ask."""
        if "cookie" in request.headers and "origin" not in request.headers:
            raise Refused(Problem(ErrorCode.FORBIDDEN, "a request with a cookie must bear an Origin"))
        if not self._identity.origin_is_allowed(request):
            raise Refused(Problem(ErrorCode.FORBIDDEN, "this origin may not use the gateway; see A2A_ALLOWED_ORIGINS"))

    def _set_cookie(self, request: Request, response: Response, value: str, max_age: int) -> None:
        response.headers["Cache-Control"] = "no-store"
        response.set_cookie(
            cookie_name(request),
            value,
            max_age=max_age,
            path="/",
            secure=not is_plain_loopback(request),
            httponly=True,
            samesite="strict",
        )


async def read_page(
    replica: Replica,
    request: Request,
    stream: Stream,
    grant: Grant,
    start: Start,
    *,
    limit: int,
    wait: float,
    poll: Poll,
) -> HistoryPage:
    """One page from `start`; at the live end, and with nothing read, the first event within `wait` seconds.

    Raises:
        Refused: it cannot be read now.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[HistoryPage | Problem] = loop.create_future()

    def done(outcome: HistoryPage | Problem) -> None:
        if not answered.done():
            answered.set_result(outcome)

    reader = poll.reader = HistoryReader(replica.schedule.add, limit, wait > 0, done)
    replica.polls[reader] = None
    patience = loop.call_later(wait, reader.hurry) if wait else None
    response: takeover.Response = request.scope["extensions"][takeover.EXTENSION]
    response.when_half_closed(reader.hurry)
    try:
        reader.subscribe(stream, (grant,), start, None, "notify")
        async with asyncio.timeout(wait + _READ_SECONDS):
            outcome = await answered
    except TimeoutError:
        raise Refused(Problem(ErrorCode.REPLAY_UNAVAILABLE, retry_after_ms=1000)) from None
    finally:
        if patience is not None:
            patience.cancel()
        response.when_half_closed(None)
        del replica.polls[reader]
        reader.release()
        poll.reader = None
    if isinstance(outcome, Problem):
        raise Refused(outcome)
    return outcome


class _PageResponse(Response):
    """A page, sent in pieces, each only when the client has taken what was before it."""

    def __init__(self, body: bytes, stall_seconds: float, on_end: Callable[[], None]) -> None:
        super().__init__(body, media_type="application/json", headers={"Cache-Control": "no-store"})
        self._stall_seconds = stall_seconds
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; a client that takes nothing for the stall time is cut off."""
        body = bytes(self.body)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(body), _PIECE_BYTES):
                piece, more = body[start : start + _PIECE_BYTES], start + _PIECE_BYTES < len(body)
                async with asyncio.timeout(self._stall_seconds):
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
        except TimeoutError:
            scope["extensions"][takeover.EXTENSION].abort()
        finally:
            self._on_end()


def _start(request: Request) -> Start:
    after, since = request.query_params.get("after"), request.query_params.get("since")
    if after is not None and since is not None:
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, "give at most one of after and since"))
    if after is None and since is None:
        return Earliest()
    start = start_of(after, since, None)
    if isinstance(start, Problem):
        raise Refused(
            start if start.code is ErrorCode.INVALID_CURSOR else Problem(ErrorCode.INVALID_PARAMETER, start.message)
        )
    return start


def _page_json(page: HistoryPage) -> bytes:
    events = b",".join(
        b'{"cursor":"%b%d","event":%b}' % (entry.life.prefix, entry.sequence, entry.payload) for entry in page.entries
    )
    gap = b""
    if page.gap is not None:
        gap = b',"gap":{"reason":"%b","from":"%b","to":"%b"}' % (
            page.gap.reason.encode(),
            page.gap.start.encode(),
            str(page.gap.to).encode(),
        )
    live = b"true" if page.live else b"false"
    return b'{"events":[%b],"cursor":"%b","live":%b%b}' % (events, str(page.cursor).encode(), live, gap)
