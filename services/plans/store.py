"""What may be asked of plans, and by whom: start, continue, get, list, cancel.

A plan is its owner's, who is the `sub` that began it; nobody else but an admin sees it, and a stranger is told what is
told of a plan that does not exist. An owner's plan is found by its subject, without a search.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import nats.errors
from pydantic import TypeAdapter, ValidationError

from contracts.contract import pointer
from contracts.cursor import Cursor, InvalidCursor, epoch_is_older
from contracts.errors import ErrorCode, Problem, Refused
from contracts.events.plan_v1 import Anything, Message, TaskState
from contracts.planrequests import CancelPlan, GetPlan, ListPlans, PlanAnswer, PlansAnswer, StartPlan
from contracts.principal import ADMIN, BUYER, NODE, SERVICE, Principal
from contracts.publishing import derived_id
from contracts.subjects import InvalidSubject
from contracts.wire import StreamGap
from services.chassis import jetstream
from services.chassis.aggregates import Cause, Target, View
from services.chassis.folds import UNTOLD
from services.chassis.jetstream import JetStreamError
from services.chassis.store import unavailable
from services.chassis.streams import Streams
from services.plans import domain, work
from services.plans.domain import Plan
from services.plans.ended import EndedPlans, Mark
from services.plans.ledger import Ledger
from services.plans.listing import Listed, page_of
from services.plans.snapshots import kept_subjects
from services.plans.worker import tell_cancelled

_MAY_START = frozenset({BUYER, NODE, SERVICE, ADMIN})
_UNKNOWN = Problem(ErrorCode.NOT_FOUND, "there is no such plan, or it is not yours")
_METADATA = TypeAdapter[dict[str, Any] | None](Anything | None)
_READS_AT_ONCE = 32
_LISTS_AT_ONCE = 2
# Read or waiting to be.
_MOST_LISTS = 32
_CONNECT_SECONDS = 2.0
MOST_LISTED = 2000
"""Plans of one list; who has more gets them by id."""


class Plans:
    """Plans as their owners and admins meet them."""

    def __init__(self, ledger: Ledger, streams: Streams) -> None:
        self._ledger = ledger
        self._streams = streams
        self._ended = EndedPlans()
        # Lists wait for each other: they are what costs, and whoever asks for one plan is not to wait for them.
        self._lists = asyncio.Semaphore(_LISTS_AT_ONCE)
        self._listing = 0

    async def start(self, who: Principal, request: StartPlan, traceparent: str | None = None) -> PlanAnswer:
        """Begin a plan, or continue the one that the message names; once for its `messageId`.

        Raises:
            Refused: `forbidden`, `invalid_message`, `not_found`, `plan_closed`, `input_not_expected`, …
        """
        if who.role not in _MAY_START:
            raise Refused(Problem(ErrorCode.FORBIDDEN, f"a {who.role} starts no plans"))
        message, metadata = _message(request.message), _metadata(request.metadata)
        if message.taskId is not None:
            return await self._go_on(who, message, traceparent)
        plan_id = derived_id("plan", who.sub, message.messageId)
        context = message.contextId or derived_id("context", who.sub, message.messageId)
        message = message.model_copy(update={"taskId": plan_id, "contextId": context})
        target = self._ledger.target(who.sub, plan_id)
        found = await self._ledger.view(target)
        if found.state is not None:
            return _answer(found.state, found.cursor)
        refused = domain.start(None, message=message, execution=0, metadata=metadata, now=self._ledger.now())
        if isinstance(refused, Problem):
            raise Refused(refused)
        execution = await self._noted(who.sub, plan_id, message)
        now = self._ledger.now()
        change = await self._ledger.change(
            target,
            Cause(f"message:{message.messageId}", traceparent=traceparent),
            lambda plan: domain.start(plan, message=message, execution=execution, metadata=metadata, now=now),
        )
        return _answer(change.state, change.cursor)

    async def _go_on(self, who: Principal, message: Message, traceparent: str | None) -> PlanAnswer:
        target, found = await self._visible(who, message.taskId or "")
        plan, now = _there(found), self._ledger.now()
        if message.contextId not in (None, plan.context_id):
            _invalid("/message/contextId", "is not the plan's")
        message = message.model_copy(update={"contextId": plan.context_id})
        if message.messageId in plan.taken:
            return _answer(plan, found.cursor)
        refused = domain.go_on(plan, message=message, execution=plan.execution, now=now)
        if isinstance(refused, Problem):
            raise Refused(refused)
        execution = await self._noted(_owner(target), plan.plan_id, message)
        change = await self._ledger.change(
            target,
            Cause(f"message:{message.messageId}", traceparent=traceparent),
            lambda plan: domain.go_on(plan, message=message, execution=execution, now=now),
        )
        return _answer(change.state, change.cursor)

    async def get(self, who: Principal, request: GetPlan) -> PlanAnswer:
        """The task now, or as of a cursor.

        Raises:
            Refused: `not_found`, `invalid_cursor`.
        """
        target, found = await self._visible(who, request.id)
        plan = _there(found)
        if request.cursor is None:
            return _answer(plan, found.cursor, request.history_length)
        return await self._as_of(target, _cursor(request.cursor), request.history_length)

    async def _as_of(self, target: Target[Plan], cursor: Cursor, history_length: int | None) -> PlanAnswer:
        """Everything up to the cursor; where that cannot be had any more, the plan as it is, and the gap."""
        past = await self._ledger.past(target, cursor.sequence)
        now = past.now
        plan = _there(now)
        reason = None
        if cursor.epoch != now.cursor.epoch:
            reason = "recreated" if epoch_is_older(cursor.epoch, now.cursor.epoch) else "ahead"
        elif cursor.sequence > now.cursor.sequence:
            reason = "ahead"
        elif past.then is not None:
            return _answer(past.then, cursor, history_length)
        elif past.first > cursor.sequence:
            # It began later: as it was then.
            begun = await self._ledger.past(target, past.first)
            if begun.then is not None:
                return _answer(begun.then, Cursor(cursor.stream, cursor.epoch, past.first), history_length)
        gap = StreamGap(reason or "expired", str(cursor), str(now.cursor))
        return _answer(plan, now.cursor, history_length, gap)

    async def cancel(self, who: Principal, request: CancelPlan) -> PlanAnswer:
        """End it, wherever it runs.

        Raises:
            Refused: `not_found`, `not_cancelable`.
        """
        target, found = await self._visible(who, request.id)
        plan, now = _there(found), self._ledger.now()
        cause = Cause(f"cancel:{plan.execution}:{who.sub}")
        change = await self._ledger.change(target, cause, lambda plan: domain.cancel(plan, now=now))
        if change.repeated:
            raise Refused(Problem(ErrorCode.NOT_CANCELABLE))
        client = await self._streams.client(_CONNECT_SECONDS)
        if client is not None:
            await tell_cancelled(client, plan.plan_id)
        return _answer(change.state, change.cursor)

    async def list(self, who: Principal, request: ListPlans) -> PlansAnswer:
        """The asker's plans, everybody's for an admin; those whose status is the latest first.

        Raises:
            Refused: `invalid_parameter`, also where there are more than `MOST_LISTED`; `rate_limited`.
        """
        status, after = _state(request.status), _moment(request.status_timestamp_after)
        plans, cursor = await self._listed("*" if who.role == ADMIN else who.sub)
        wanted = [
            one
            for one in plans
            if (request.context_id is None or one.context_id == request.context_id)
            and (status is None or one.status.state is status)
            and (after is None or one.status.timestamp >= after)
        ]
        tasks, token = page_of(
            [Listed(one, _task(one, request)) for one in wanted], request.page_size, request.page_token
        )
        return PlansAnswer(tasks, token, len(wanted), request.page_size, str(cursor))

    async def _listed(self, owner: str) -> tuple[Sequence[Plan], Cursor]:
        if self._listing >= _MOST_LISTS:
            raise Refused(Problem(ErrorCode.RATE_LIMITED, "too many lists are asked for at once", retry_after_ms=1000))
        self._listing += 1
        try:
            async with self._lists:
                marks, cursor = await self._marks(owner)
                return await self._all(marks), cursor
        finally:
            self._listing -= 1

    async def _marks(self, owner: str) -> tuple[Mapping[str, Mark], Cursor]:
        """An owner's plans by subject: in the stream, or ended and aged out of it; and the stream's end before that."""
        try:
            client = await self._streams.client(_CONNECT_SECONDS)
            if client is None:
                raise unavailable("NATS is away")
            info = await jetstream.request(client, "STREAM.INFO.PLANS", {"subjects_filter": f"plan.{owner}.>"})
            kept = await kept_subjects(client, owner)
        except UNTOLD as error:
            raise unavailable(str(error) or type(error).__name__) from error
        state = jetstream.state_of(info)
        counts = dict.fromkeys(kept, 0) | (info["state"].get("subjects") or {})
        found = {subject: Mark(state.epoch, count) for subject, count in sorted(counts.items())}
        if len(found) > MOST_LISTED:
            raise Refused(
                Problem(ErrorCode.INVALID_PARAMETER, f"{len(found)} plans; {MOST_LISTED} can be listed: get them by id")
            )
        return found, Cursor("PLANS", state.epoch, state.last)

    async def _all(self, marks: Mapping[str, Mark]) -> Sequence[Plan]:
        room = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(subject: str, mark: Mark) -> Plan | None:
            found = self._ended.get(subject, mark)
            if found is None:
                _, owner, plan_id = subject.split(".")
                async with room:
                    found = (await self._ledger.view(self._ledger.target(owner, plan_id))).state
                if found is not None:
                    self._ended.keep(subject, mark, found)
            return found

        return [plan for plan in await asyncio.gather(*map(one, marks, marks.values())) if plan is not None]

    async def _visible(self, who: Principal, plan_id: str) -> tuple[Target[Plan], View[Plan]]:
        """The plan, where this principal may see it."""
        try:
            target: Target[Plan] | None = self._ledger.target(who.sub, plan_id)
        except InvalidSubject as error:
            raise Refused(_UNKNOWN) from error
        if who.role == ADMIN:
            target = await self._ledger.find(plan_id)
        if target is None:
            raise Refused(_UNKNOWN)
        return target, await self._ledger.view(target)

    async def _noted(self, owner: str, plan_id: str, message: Message) -> int:
        try:
            client = await self._streams.client(_CONNECT_SECONDS)
            if client is None:
                raise unavailable("NATS is away")
            return await work.note(client, owner, plan_id, message.messageId)
        except (nats.errors.Error, OSError, JetStreamError) as error:
            raise unavailable(str(error) or type(error).__name__) from error


def _there(found: View[Plan]) -> Plan:
    if found.state is None:
        raise Refused(_UNKNOWN)
    return found.state


def _owner(target: Target[Plan]) -> str:
    return target.subject.split(".")[1]


def _answer(
    plan: Plan | None, cursor: Cursor, history_length: int | None = None, gap: StreamGap | None = None
) -> PlanAnswer:
    if plan is None:
        raise Refused(_UNKNOWN)
    return PlanAnswer(domain.task(plan, history_length=history_length), str(cursor), gap)


def _task(plan: Plan, request: ListPlans) -> dict[str, Any]:
    return domain.task(plan, history_length=request.history_length, artifacts=request.include_artifacts)


def _message(told: object) -> Message:
    try:
        message = Message.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        _invalid(pointer(("message", *first["loc"])), first["msg"])
    if message.role != "ROLE_USER":
        _invalid("/message/role", "must be ROLE_USER")
    return message


def _metadata(told: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        return _METADATA.validate_python(told)
    except ValidationError as error:
        _invalid("/metadata", error.errors()[0]["msg"])


def _invalid(where: str, what: str) -> NoReturn:
    raise Refused(Problem(ErrorCode.INVALID_MESSAGE, f"{where}: {what}", details={"field": where}))


def _cursor(text: str) -> Cursor:
    try:
        found = Cursor.parse(text)
    except InvalidCursor as error:
        raise Refused(Problem(ErrorCode.INVALID_CURSOR)) from error
    if found.stream != "PLANS":
        raise Refused(Problem(ErrorCode.INVALID_CURSOR, "a plan's cursor is of the stream PLANS"))
    return found


def _state(text: str | None) -> TaskState | None:
    try:
        return None if text is None else TaskState(text)
    except ValueError as error:
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, "status: not a state like TASK_STATE_WORKING")) from error


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, "status_timestamp_after: not an RFC 3339 time")) from error
    if found.tzinfo is None:
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, "status_timestamp_after: lacks its offset"))
    return found
