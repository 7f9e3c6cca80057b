"""A2A's operations, the same for every binding: asked of the plans service, followed from the gateway's own log.

Who may see a plan is decided by the grant of its channel, before anything is asked; whether it exists is told to
nobody else. Decides when a stream begins and when a blocking call has its answer; never how either is written.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from contracts.cursor import Cursor, InvalidCursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.planrequests import CancelPlan, GetPlan, ListPlans, PlanAnswer, PlansAnswer, StartPlan
from contracts.principal import SERVICE, Principal
from services.gateway.a2a.dialects import Dialect
from services.gateway.a2a.faults import Kind, failed, not_found
from services.gateway.a2a.stream import TaskStream
from services.gateway.a2a.updates import INTERRUPTED, TERMINAL, Body, state_after, state_of, with_cursor
from services.gateway.bus.plans import PlanRequests
from services.gateway.core.access import Grant
from services.gateway.core.headcount import Holder
from services.gateway.core.history import Poll
from services.gateway.core.replay import After, Gap
from services.gateway.core.replica import Replica
from services.gateway.core.stream import Stream
from services.gateway.transports.http import read_page
from services.gateway.transports.identity import Identity, header
from services.gateway.transports.sse import TakenOver, hand_over

ComesTooSoon = Callable[[HTTPConnection], Problem | None]

_SETTLED = TERMINAL | INTERRUPTED
_PAGE_EVENTS = 100
_CAPITAL = re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client."""

    request: Request
    principal: Principal
    token: str
    dialect: Dialect

    @property
    def traceparent(self) -> str | None:
        """The trace it belongs to."""
        return header(self.request, b"traceparent")


class SendParams(msgspec.Struct, rename="camel"):
    """A2A's SendMessageRequest."""

    message: dict[str, Any]
    configuration: dict[str, Any] = {}
    metadata: dict[str, Any] | None = None


class Configuration(msgspec.Struct, rename="camel"):
    """A2A's SendMessageConfiguration, as far as it is of use here."""

    history_length: Annotated[int, msgspec.Meta(ge=0)] | None = None
    return_immediately: bool = False
    task_push_notification_config: Any = None


class GetParams(msgspec.Struct, rename="camel"):
    """A2A's GetTaskRequest."""

    id: str
    history_length: int | None = None


class IdParams(msgspec.Struct):
    """A2A's CancelTaskRequest and SubscribeToTaskRequest."""

    id: str


class Operations:
    """What one gateway does for A2A's clients."""

    def __init__(self, replica: Replica, identity: Identity, plans: PlanRequests, comes_too_soon: ComesTooSoon) -> None:
        """`comes_too_soon`: why a stream may not begin now, if its address begins too many."""
        self._replica = replica
        self._identity = identity
        self._plans = plans
        self._comes_too_soon = comes_too_soon

    # One answer.

    async def get(self, call: Call, params: GetParams) -> Body:
        """The task as it is, with the cursor from which to follow it."""
        self._grant(call, params.id)
        return _told(await self._ask(call, GetPlan(params.id, params.history_length)))

    async def cancel(self, call: Call, params: IdParams) -> Body:
        """The task, ended or about to be."""
        self._grant(call, params.id)
        return _told(await self._ask(call, CancelPlan(params.id)))

    async def list(self, call: Call, asked: ListPlans) -> Body:
        """A page of the caller's tasks."""
        self._see_all(call)
        page = await self._plans.ask(asked, PlansAnswer, call.token, call.traceparent)
        return {
            "tasks": [with_cursor(task, page.cursor) for task in page.tasks],
            "nextPageToken": page.next_page_token,
            "pageSize": page.page_size,
            "totalSize": page.total_size,
        }

    async def send(self, call: Call, params: SendParams) -> Body:
        """Start or continue a plan; the task at once, or as it is when it ends or waits for its client."""
        sees_nothing = call.principal.role == SERVICE
        if not sees_nothing:
            self._see_all(call)
        wanted = _configuration(params)
        answer = await self._start(call, params)
        if sees_nothing or wanted.return_immediately or state_of(answer.task) in _SETTLED:
            return _shortened(_told(answer), wanted.history_length)
        grant = self._grant(call, str(answer.task["id"]))
        poll = Poll(call.principal, self._replica.new_id(), self._replica.dismiss)
        self._admit(call.principal, poll)
        try:
            await self._settled(call, grant, answer, poll)
        finally:
            poll.end()
        return _told(await self._ask(call, GetPlan(str(answer.task["id"]), wanted.history_length)))

    async def _settled(self, call: Call, grant: Grant, answer: PlanAnswer, poll: Poll) -> None:
        """Until the plan ends or waits for its client; the caller's patience and the gateway's have an end."""
        now = asyncio.get_running_loop().time
        ends_at = now() + self._replica.limits.task_wait_seconds
        cursor, state = Cursor.parse(answer.cursor), state_of(answer.task)
        while state not in _SETTLED and (left := ends_at - now()) > 0:
            stream = self._stream(grant)
            page = await read_page(
                self._replica, call.request, stream, grant, After(cursor), limit=_PAGE_EVENTS, wait=left, poll=poll
            )
            if page.live and not page.entries:
                return
            for entry in page.entries:
                state = state_after(entry, state)
                if entry.final:
                    return
            cursor = page.cursor

    # Streams.

    async def send_streaming(self, call: Call, params: SendParams) -> Response:
        """Start or continue a plan and follow it."""
        self._see_all(call)

        async def begin() -> PlanAnswer:
            return await self._start(call, params)

        return await self._streamed(call, begin)

    async def subscribe(self, call: Call, params: IdParams) -> Response:
        """Follow a plan from now, or from the client's last event on; not one of which nothing is due."""
        self._grant(call, params.id)
        resumed = header(call.request, b"last-event-id") or None
        if resumed is not None and _cursor(resumed).stream != "PLANS":
            raise failed(Kind.INVALID_PARAMS, "Last-Event-ID is not a cursor of a plan")

        async def begin() -> PlanAnswer:
            answer = await self._ask(call, GetPlan(params.id, cursor=resumed))
            if state_of(answer.task) in TERMINAL and answer.gap is None:
                raise failed(Kind.UNSUPPORTED_OPERATION, "The task has ended and nothing is due; use GetTask")
            return answer

        return await self._streamed(call, begin)

    async def _streamed(self, call: Call, begin: Callable[[], Awaitable[PlanAnswer]]) -> Response:
        too_soon = self._comes_too_soon(call.request)
        if too_soon is not None:
            raise Refused(too_soon)
        events = TaskStream(self._replica, call.principal, call.dialect)
        try:
            self._admit(call.principal, events)
            answer = await begin()
            grant = self._grant(call, str(answer.task["id"]))
            stream, cursor = self._stream(grant), Cursor.parse(answer.cursor)
            if events.closed:  # the replica began to leave meanwhile, or the caller is revoked
                raise Refused(self._replica.judge(call.principal) or Problem(ErrorCode.DRAINING, retry_after_ms=1000))
            events.follow(stream, grant, with_cursor(answer.task, answer.cursor), cursor, _gap(answer))
            await hand_over(call.request, events, self._replica, self._identity)
        except BaseException:
            events.release()
            raise
        return TakenOver()

    # Checks.

    def _grant(self, call: Call, plan: str) -> Grant:
        """What the caller sees of a plan; an id that can be none is as unknown as any."""
        grant = self._replica.access.grant(call.principal, f"plan:{plan}")
        if not isinstance(grant, Problem):
            return grant
        if grant.code is ErrorCode.INVALID_CHANNEL:
            raise not_found()
        raise Refused(grant)

    def _see_all(self, call: Call) -> None:
        problem = self._replica.access.all_of(call.principal, "plan")
        if problem is not None:
            raise Refused(problem)

    def _admit(self, principal: Principal, holder: Holder) -> None:
        problem = self._replica.admit(principal, holder)
        if problem is not None:
            raise Refused(problem)

    def _stream(self, grant: Grant) -> Stream:
        stream = self._replica.streams[grant.stream]
        if not stream.is_open:
            raise Refused(
                Problem(ErrorCode.REPLAY_UNAVAILABLE, "this gateway has not reached the event store yet", 1000)
            )
        return stream

    # The plans service.

    async def _ask(self, call: Call, request: GetPlan | CancelPlan | StartPlan) -> PlanAnswer:
        return await self._plans.ask(request, PlanAnswer, call.token, call.traceparent)

    async def _start(self, call: Call, params: SendParams) -> PlanAnswer:
        if _configuration(params).task_push_notification_config:
            raise failed(Kind.PUSH_NOT_SUPPORTED)
        return await self._ask(call, StartPlan(params.message, params.configuration or None, params.metadata))


def _told(answer: PlanAnswer) -> Body:
    return with_cursor(answer.task, answer.cursor)


def _gap(answer: PlanAnswer) -> Gap | None:
    return None if answer.gap is None else Gap(answer.gap.reason, answer.gap.start, Cursor.parse(answer.gap.to))


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.parse(text)
    except InvalidCursor as error:
        raise failed(Kind.INVALID_PARAMS, "Last-Event-ID is not a cursor") from error


def _configuration(params: SendParams) -> Configuration:
    found: Configuration = read_params(params.configuration, Configuration)
    return found


def _shortened(task: Body, history_length: int | None) -> Body:
    history = task.get("history") or []
    if history_length is None or history_length >= len(history):
        return task
    return {**task, "history": history[len(history) - history_length :]}


def list_params(found: Mapping[str, Any]) -> ListPlans:
    """A2A's ListTasksRequest, whose names in JSON are the contract's with capitals for underscores.

    Raises:
        Failed: it is none.
    """
    named = {_CAPITAL.sub(r"_\g<0>", name).lower(): value for name, value in found.items()}
    read: ListPlans = read_params(named, ListPlans)
    return read


def read_params(found: Mapping[str, Any], kind: type[Any]) -> Any:
    """The parameters of a call.

    Raises:
        Failed: they do not have the form of `kind`.
    """
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise failed(Kind.INVALID_PARAMS, str(error)) from error
