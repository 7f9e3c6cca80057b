"""A plan: an A2A task as the fold of its events, and what may happen to it next. Pure.

Terminal is terminal: nothing follows a completed, failed, canceled or rejected status. One execution at a time speaks
for a plan; each has a number, later ones higher ones, and what an earlier one still says is refused. A plan stays
within bounds that keep its task, artifacts and history included, below one NATS message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from contracts.a2a import PlanData, error_as_status
from contracts.errors import ErrorCode, Problem
from contracts.events.plan_v1 import (
    Artifact,
    Message,
    Part,
    PlanArtifactUpdated,
    PlanError,
    PlanStatusUpdated,
    TaskState,
    TaskStatus,
)

KIB = 1024
LARGEST_EVENT_BYTES = 192 * KIB
"""Of the `data` of one event; the whole event may have 256 KiB."""
LARGEST_ARTIFACTS_BYTES = 384 * KIB
"""Of all artifacts of a plan."""
LARGEST_HISTORY_BYTES = 96 * KIB
MOST_MESSAGES = 100
"""Of its history: the oldest messages go."""
MOST_ARTIFACTS = 200
MOST_EVENTS = 20_000
MOST_LOSSES = 3
"""How often a lost execution is taken up again before the plan fails."""
EXECUTION = "execution"
"""Where an event's `metadata` tells which execution begins with it."""
RELEASED = "released"
"""Where it tells that an execution was given back in order, so that the next one counts no loss."""
_MOST_TURNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan as it is."""

    plan_id: str
    context_id: str
    status: TaskStatus
    # What was said, but for the word that the status has now.
    history: tuple[Message, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    # What the request that began it said.
    metadata: dict[str, Any] | None = None
    # The ids of the user's messages, the latest ones: each is taken once.
    taken: tuple[str, ...] = ()
    # The latest message of the user, which the execution is about.
    asked: Message | None = None
    execution: int = 0
    losses: int = 0
    released: bool = False
    # Artifacts that were told to be whole.
    closed: tuple[str, ...] = ()
    events: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow."""
        return self.status.state.is_terminal


Decision = Sequence[PlanData] | Problem


def size_of(model: BaseModel) -> int:
    """Its bytes as JSON."""
    return len(model.model_dump_json(exclude_none=True).encode())


# What may happen.


def start(
    plan: Plan | None, *, message: Message, execution: int, metadata: dict[str, Any] | None, now: datetime
) -> Decision:
    """Begin it with the user's message, which bears its task's and its context's id; once."""
    if plan is not None:
        return ()
    first = PlanStatusUpdated(
        taskId=message.taskId or "",
        contextId=message.contextId or "",
        status=TaskStatus(state=TaskState.SUBMITTED, message=message, timestamp=now),
        metadata={**(metadata or {}), EXECUTION: execution},
    )
    return _fitting(first)


def go_on(plan: Plan | None, *, message: Message, execution: int, now: datetime) -> Decision:
    """Continue it with a further message, where it waits for one."""
    if plan is None:
        return Problem(ErrorCode.NOT_FOUND)
    if message.messageId in plan.taken:
        return ()
    if plan.is_over:
        return Problem(ErrorCode.PLAN_CLOSED)
    if not plan.status.state.takes_input:
        return Problem(ErrorCode.INPUT_NOT_EXPECTED, retry_after_ms=1000)
    if len(plan.taken) >= _MOST_TURNS:
        return Problem(ErrorCode.PLAN_FULL, f"a plan takes {_MOST_TURNS} messages")
    return _fitting(_status(plan, TaskState.WORKING, now, message, {EXECUTION: execution}))


def publish(plan: Plan | None, data: PlanData, *, execution: int | None = None) -> Decision:
    """What an executor says of it; `execution` is which one, None where nobody else can speak for the plan."""
    refused = _speaks(plan, execution)
    if refused is not None or plan is None:
        return refused or Problem(ErrorCode.NOT_FOUND)
    if data.contextId != plan.context_id:
        return Problem(ErrorCode.INVALID_EVENT, f"the plan's contextId is {plan.context_id[:80]!r}")
    if isinstance(data, PlanArtifactUpdated):
        return _with_artifact(plan, data)
    if isinstance(data, PlanStatusUpdated):
        data = _without_claims(data)
    ends = isinstance(data, PlanStatusUpdated) and data.status.state.is_terminal
    if plan.events >= MOST_EVENTS and not ends:
        return Problem(ErrorCode.PLAN_FULL, f"a plan has {MOST_EVENTS} events")
    return _fitting(data)


def fail(plan: Plan | None, *, code: str, message: str, now: datetime, execution: int | None = None) -> Decision:
    """End it by an error: both are stored or none."""
    if plan is None or plan.is_over or _speaks(plan, execution) is not None:
        return ()
    error = PlanError(
        taskId=plan.plan_id, contextId=plan.context_id, code=code, message=message[:2000] or code, retryable=False
    )
    return (error, _status(plan, TaskState.FAILED, now))


def cancel(plan: Plan | None, *, now: datetime) -> Decision:
    """End it because its owner wants it no more."""
    if plan is None:
        return Problem(ErrorCode.NOT_FOUND)
    if plan.is_over:
        return Problem(ErrorCode.NOT_CANCELABLE)
    return (_status(plan, TaskState.CANCELED, now),)


def take_over(plan: Plan | None, *, execution: int, now: datetime) -> Decision:
    """Another execution goes on where one was lost or given back; after too many losses the plan fails."""
    if plan is None or plan.is_over or plan.execution >= execution:
        return ()
    if not plan.released and plan.losses >= MOST_LOSSES:
        told = f"Its executor was lost, and {MOST_LOSSES} times again; the plan is given up."
        return fail(plan, code="executor_lost", message=told, now=now)
    return (_status(plan, TaskState.WORKING, now, None, {EXECUTION: execution}),)


def release(plan: Plan | None, *, execution: int, now: datetime) -> Decision:
    """The execution is given back in order: its process ends."""
    if plan is None or plan.is_over or plan.execution != execution or plan.status.state.takes_input:
        return ()
    return (_status(plan, plan.status.state, now, None, {RELEASED: execution}),)


def _without_claims(data: PlanStatusUpdated) -> PlanStatusUpdated:
    """Which execution a plan has is not for one of them to say, by an agent's own metadata least of all."""
    told = data.metadata or {}
    kept = {name: value for name, value in told.items() if name not in (EXECUTION, RELEASED)}
    return data if len(kept) == len(told) else data.model_copy(update={"metadata": kept or None})


def _speaks(plan: Plan | None, execution: int | None) -> Problem | None:
    if plan is None:
        return Problem(ErrorCode.NOT_FOUND, "there is no such plan")
    if plan.is_over:
        return Problem(ErrorCode.PLAN_CLOSED)
    if execution is not None and execution != plan.execution:
        return Problem(ErrorCode.PLAN_SUPERSEDED)
    return None


def _with_artifact(plan: Plan, data: PlanArtifactUpdated) -> Decision:
    key = data.artifact.artifactId
    known = any(one.artifactId == key for one in plan.artifacts)
    if data.append and not known:
        return Problem(ErrorCode.INVALID_EVENT, f"append: the plan has no artifact {key[:80]!r}")
    if data.append and key in plan.closed:
        return Problem(ErrorCode.INVALID_EVENT, f"append: artifact {key[:80]!r} had its last chunk")
    after = _artifacts(plan.artifacts, data)
    if sum(map(size_of, after)) > LARGEST_ARTIFACTS_BYTES or len(after) > MOST_ARTIFACTS:
        return Problem(
            ErrorCode.PLAN_FULL,
            f"a plan has {MOST_ARTIFACTS} artifacts of {LARGEST_ARTIFACTS_BYTES // KIB} KiB together; give a url",
        )
    if plan.events >= MOST_EVENTS:
        return Problem(ErrorCode.PLAN_FULL, f"a plan has {MOST_EVENTS} events")
    return _fitting(data)


def _fitting(data: PlanData) -> Decision:
    size = size_of(data)
    if size > LARGEST_EVENT_BYTES:
        return Problem(ErrorCode.MESSAGE_TOO_LARGE, f"{size} bytes; an update has {LARGEST_EVENT_BYTES}: give a url")
    return (data,)


def _status(
    plan: Plan,
    state: TaskState,
    now: datetime,
    message: Message | None = None,
    metadata: dict[str, Any] | None = None,
) -> PlanStatusUpdated:
    status = TaskStatus(state=state, message=message, timestamp=now)
    return PlanStatusUpdated(taskId=plan.plan_id, contextId=plan.context_id, status=status, metadata=metadata)


# What follows from what happened.


def evolve(plan: Plan | None, data: Any) -> Plan | None:
    """The plan after one event; what follows a terminal status, or comes before the first, changes nothing."""
    if plan is None:
        return _born(data)
    if plan.is_over:
        return plan
    plan = replace(plan, events=plan.events + 1)
    if isinstance(data, PlanArtifactUpdated):
        closed = (*plan.closed, data.artifact.artifactId) if data.lastChunk else plan.closed
        return replace(plan, artifacts=_artifacts(plan.artifacts, data), closed=tuple(dict.fromkeys(closed)))
    if isinstance(data, PlanError):
        return _with_status(plan, error_as_status(data, plan.status).status)
    return _moved(plan, data)


def _born(data: Any) -> Plan | None:
    if not isinstance(data, PlanStatusUpdated):
        return None
    told = dict(data.metadata or {})
    execution = told.pop(EXECUTION, 0)
    plan = Plan(
        plan_id=data.taskId,
        context_id=data.contextId,
        status=data.status.model_copy(update={"message": None}),
        metadata=told or None,
        execution=execution if isinstance(execution, int) else 0,
        events=1,
    )
    return _with_status(plan, data.status)


def _moved(plan: Plan, data: PlanStatusUpdated) -> Plan:
    told = data.metadata or {}
    execution = told.get(EXECUTION)
    if isinstance(execution, int) and execution > plan.execution:
        is_turn = data.status.message is not None and data.status.message.role == "ROLE_USER"
        losses = 0 if is_turn else plan.losses if plan.released else plan.losses + 1
        plan = replace(plan, execution=execution, losses=losses, released=False)
    elif told.get(RELEASED) == plan.execution:
        plan = replace(plan, released=True)
    return _with_status(plan, data.status)


def _with_status(plan: Plan, status: TaskStatus) -> Plan:
    """The agent's word stays with its status until the next one; the user's goes to the history at once."""
    said = [one for one in (plan.status.message, status.message) if one is not None]
    asked = status.message if status.message is not None and status.message.role == "ROLE_USER" else None
    if asked is not None:
        taken = (*plan.taken, asked.messageId)[-_MOST_TURNS:]
        plan = replace(plan, asked=asked, taken=taken)
        status = status.model_copy(update={"message": None})
    elif status.message is not None:
        said = said[:-1]
    return replace(plan, status=status, history=_bounded((*plan.history, *said)))


def _bounded(history: tuple[Message, ...]) -> tuple[Message, ...]:
    history = history[-MOST_MESSAGES:]
    sizes = [size_of(one) for one in history]
    while len(sizes) > 1 and sum(sizes) > LARGEST_HISTORY_BYTES:
        sizes.pop(0)
    return history[len(history) - len(sizes) :]


def _artifacts(artifacts: tuple[Artifact, ...], data: PlanArtifactUpdated) -> tuple[Artifact, ...]:
    told = data.artifact
    for index, one in enumerate(artifacts):
        if one.artifactId == told.artifactId:
            whole = told if not data.append else _longer(one, told)
            return (*artifacts[:index], whole, *artifacts[index + 1 :])
    return artifacts if data.append else (*artifacts, told)


def _longer(artifact: Artifact, chunk: Artifact) -> Artifact:
    parts: tuple[Part, ...] = (*artifact.parts, *chunk.parts)
    metadata = {**(artifact.metadata or {}), **(chunk.metadata or {})} or None
    return artifact.model_copy(update={"parts": parts, "metadata": metadata})


# How A2A sees it.


def task(plan: Plan, *, history_length: int | None = None, artifacts: bool = True) -> dict[str, Any]:
    """The A2A 1.0 task, as ProtoJSON."""
    history = plan.history if history_length is None else plan.history[len(plan.history) - history_length :]
    if history_length is not None and history_length >= len(plan.history):
        history = plan.history
    found: dict[str, Any] = {"id": plan.plan_id, "contextId": plan.context_id, "status": _json(plan.status)}
    if artifacts and plan.artifacts:
        found["artifacts"] = [_json(one) for one in plan.artifacts]
    if history:
        found["history"] = [_json(one) for one in history]
    if plan.metadata:
        found["metadata"] = plan.metadata
    return found


def _json(model: BaseModel) -> dict[str, Any]:
    found: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return found
