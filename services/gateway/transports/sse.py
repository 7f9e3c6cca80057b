"""The SSE client's bytes, and `GET /v1/events` (PROTOCOL §6).

Any status but 200 stops an EventSource for good: what is worth a retry is therefore told in a
stream that ends at once, what is not is a status.
"""

import asyncio

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from contracts.cursor import Cursor, InvalidCursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import Principal
from services.chassis.problems import problem_response
from services.gateway.core.access import Grant
from services.gateway.core.arrivals import Arrivals
from services.gateway.core.eventstream import EventStream, first_bytes, parting
from services.gateway.core.log import Page
from services.gateway.core.replay import After, Answer, Last, NeedNewest, Now, Start, start_of
from services.gateway.core.replica import Replica
from services.gateway.core.stream import Stream
from services.gateway.transports.address import Addresses
from services.gateway.transports.identity import Identity
from services.gateway.transports.takeover import EXTENSION, Response, SlimProtocol

_LOW_SHARE = 4
_MOST_TYPES = 64
_PLACED_SECONDS = 8.0
_HEAD = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
# Worth a retry, so told in a stream of status 200 that ends.
_RETRY = {
    ErrorCode.RATE_LIMITED,
    ErrorCode.TOO_MANY_CONNECTIONS,
    ErrorCode.REPLAY_UNAVAILABLE,
    ErrorCode.DRAINING,
    ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.INTERNAL,
}


class EventStreamTransport(SlimProtocol):
    """One SSE connection after its response head; the event stream's sink."""

    __slots__ = ("_stream", "transport")

    def __init__(self, transport: asyncio.Transport, stream: EventStream, write_high_bytes: int) -> None:
        self.transport = transport
        self._stream = stream
        transport.set_write_buffer_limits(write_high_bytes, write_high_bytes // _LOW_SHARE)

    def data_received(self, data: bytes) -> None:
        """The response is the connection's last: whatever the client sends is dropped."""

    def eof_received(self) -> None:
        """The client has left: nothing said keeps the transport open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone; everything it held is released now."""
        super().connection_lost(exc)
        self._stream.detach()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._stream.pause()

    def resume_writing(self) -> None:
        """The client has caught up with what was written."""
        if not self._stream.closed:
            self._stream.resume()

    def shutdown(self) -> None:
        """Uvicorn stops: tell the client when to come back."""
        self._stream.drain()

    def write(self, data: bytes) -> None:
        """Send after all before."""
        self.transport.write(data)

    def close(self) -> None:
        """End once everything is sent."""
        self.transport.close()

    def abort(self) -> None:
        """The client did not take what was left in time."""
        self.transport.abort()

    def hold(self) -> None:
        """An SSE client sends nothing."""

    def go_on(self) -> None:
        """An SSE client sends nothing."""

    def unsent(self) -> int:
        """What the transport's buffer holds."""
        return self.transport.get_write_buffer_size()


class TakenOver(HttpResponse):
    """The answer is on its way without Starlette."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing is left to send."""


async def hand_over(request: Request, events: EventStream, replica: Replica, identity: Identity) -> None:
    """Send the response's head and give the transport to the stream."""
    response: Response = request.scope["extensions"][EXTENSION]

    def make(transport: asyncio.Transport) -> SlimProtocol:
        protocol = EventStreamTransport(transport, events, replica.limits.write_high_bytes)
        events.attach(protocol)
        return protocol

    taken = await response.take_over([*_HEAD, *identity.cors(request)], make)
    if response.is_half_closed or not taken:
        events.leave()


class EventsEndpoint:
    """`GET /v1/events`."""

    def __init__(self, replica: Replica, identity: Identity, addresses: Addresses, arrivals: Arrivals) -> None:
        self._replica = replica
        self._identity = identity
        self._addresses = addresses
        self._arrivals = arrivals

    async def get(self, request: Request) -> HttpResponse:
        """Check, subscribe, and give the transport to the stream."""
        too_soon = self._arrivals.refusal(self._addresses.of(request))
        if too_soon is not None:
            return self._refuse(too_soon)
        try:
            principal = await self._identity.of_request(request)
            stream, grants, start, types, on_gap = self._asked(request, principal)
            finals = await self._finals(stream, grants)
            if len(finals) == len(grants):  # every channel has ended
                if _is_at(start, stream, max(finals.values())):
                    return HttpResponse(status_code=204)
                if isinstance(start, Now):
                    start = After(stream.log.life.cursor(min(finals.values()) - 1))
            if request.method == "HEAD":
                return HttpResponse(headers={name.decode(): value.decode() for name, value in _HEAD})
        except Refused as refused:
            return self._refuse(refused.problem)
        events = EventStream(self._replica, principal)
        try:
            problem = self._replica.admit(principal, events)
            if problem is not None:
                events.release()
                return self._refuse(problem)
            # What may be refused for good needs a status, and that is known once the start is placed.
            placed = self._placement(events) if on_gap == "refuse" or isinstance(start, Last) else None
            events.begin(stream, grants, start, types, on_gap, finals=finals)
            problem = await _within(placed) if placed is not None else None
            if problem is not None:
                events.release()
                return self._refuse(problem)
            await hand_over(request, events, self._replica, self._identity)
        except BaseException:
            events.release()
            raise
        return TakenOver()

    def _placement(self, events: EventStream) -> "asyncio.Future[Problem | None]":
        placed: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()
        events.on_placed = lambda problem: None if placed.done() else placed.set_result(problem)
        return placed

    def _refuse(self, problem: Problem) -> HttpResponse:
        self._replica.tally.count(self._replica.tally.problems, problem.code.wire)
        if problem.code not in _RETRY or not problem.may_retry:
            return problem_response(problem)
        head = {name.decode(): value.decode() for name, value in _HEAD}
        return HttpResponse(
            first_bytes(self._replica.random()) + parting(problem), headers={**head, "connection": "close"}
        )

    # What was asked.

    def _asked(
        self, request: Request, principal: Principal
    ) -> tuple[Stream, tuple[Grant, ...], Start, frozenset[str] | None, str]:
        query = request.query_params
        grants = self._grants(query, principal)
        on_gap = query.get("on_gap", "notify")
        if on_gap not in ("notify", "refuse"):
            raise _invalid("on_gap is notify or refuse")
        types = query.getlist("type")
        if len(types) > _MOST_TYPES:
            raise _invalid(f"at most {_MOST_TYPES} types")
        stream = self._replica.streams[grants[0].stream]
        start = _start(query, request.headers.get("last-event-id"))
        if isinstance(start, After) and start.cursor.stream != stream.name:
            raise Refused(
                Problem(ErrorCode.INVALID_CURSOR, f"that cursor is of stream {start.cursor.stream}, not {stream.name}")
            )
        if not stream.is_open:
            raise Refused(
                Problem(ErrorCode.REPLAY_UNAVAILABLE, "this gateway has not reached the event store yet", 1000)
            )
        return stream, grants, start, frozenset(types) or None, on_gap

    def _grants(self, query: QueryParams, principal: Principal) -> tuple[Grant, ...]:
        names = list(dict.fromkeys([*query.getlist("channel"), *(f"plan:{plan}" for plan in query.getlist("plan_id"))]))
        if not names:
            raise _invalid("name at least one channel, as ?channel=buyer:<id>")
        if len(names) > self._replica.limits.max_channels:
            raise Refused(
                Problem(ErrorCode.TOO_MANY_SUBSCRIPTIONS, f"{self._replica.limits.max_channels} channels are allowed")
            )
        found = []
        for name in names:
            grant = self._replica.access.grant(principal, name)
            if isinstance(grant, Problem):
                raise Refused(grant)
            found.append(grant)
        if len({grant.stream for grant in found}) > 1:
            raise Refused(Problem(ErrorCode.MIXED_STREAMS))
        return tuple(found)

    async def _finals(self, stream: Stream, grants: tuple[Grant, ...]) -> dict[str, int]:
        """Where each channel that has ended did, by key; nothing where some of them never end."""
        if not all(grant.kind.ends for grant in grants):
            return {}
        stored = {}
        for grant in grants:
            if stream.log.newest(grant.key) is None:
                answer = await _ask(stream, NeedNewest(grant.filters, stream.log.low))
                if isinstance(answer, Page) and answer.entries:
                    stored[grant.key] = answer.entries[0]
        # The log is asked last and in one go: what came meanwhile is there, and nothing comes until the stream begins.
        newest = {grant.key: stream.log.newest(grant.key) or stored.get(grant.key) for grant in grants}
        return {key: entry.sequence for key, entry in newest.items() if entry is not None and entry.final}


def _is_at(start: Start, stream: Stream, sequence: int) -> bool:
    """Whether a client that begins there has everything up to `sequence`."""
    return (
        isinstance(start, After) and start.cursor.epoch == stream.log.life.epoch and start.cursor.sequence >= sequence
    )


async def _ask(stream: Stream, need: NeedNewest) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    stream.archive.ask(
        need, lambda answer: None if answered.done() else answered.set_result(answer), lambda: not answered.done()
    )
    try:
        async with asyncio.timeout(_PLACED_SECONDS):
            answer = await answered
    except TimeoutError:
        answer = Problem(ErrorCode.REPLAY_UNAVAILABLE, retry_after_ms=1000)
    if isinstance(answer, Problem):
        raise Refused(answer)
    return answer


async def _within(placed: "asyncio.Future[Problem | None]") -> Problem | None:
    try:
        async with asyncio.timeout(_PLACED_SECONDS):
            return await placed
    except TimeoutError:
        return Problem(ErrorCode.REPLAY_UNAVAILABLE, retry_after_ms=1000)


def _invalid(why: str) -> Refused:
    return Refused(Problem(ErrorCode.INVALID_PARAMETER, why))


def _start(query: QueryParams, last_event_id: str | None) -> Start:
    cursor, since, last = query.get("cursor"), query.get("since"), query.get("last")
    if sum(value is not None for value in (cursor, since, last)) > 1:
        raise _invalid("give at most one of cursor, since and last")
    if last_event_id:
        try:
            return After(Cursor.parse(last_event_id))
        except InvalidCursor as error:
            raise Refused(Problem(ErrorCode.INVALID_CURSOR, "Last-Event-ID is not a cursor")) from error
    if last is not None and not (last.isascii() and last.isdigit() and len(last) <= 4 and 1 <= int(last) <= 1000):
        raise _invalid("last is a number from 1 to 1000")
    start = start_of(cursor, since, int(last) if last is not None else None)
    if isinstance(start, Problem):
        raise Refused(
            start if start.code is ErrorCode.INVALID_CURSOR else Problem(ErrorCode.INVALID_PARAMETER, start.message)
        )
    return start
