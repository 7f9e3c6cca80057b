"""A2A events: what a plan's followers get, each with the cursor after it, and how an error looks to A2A.

A2A knows status and artifact updates alone. An error is told to its clients as a status update with the state that
the plan has, a word of the agent, and the error in `metadata`; the fold of a plan and the edge both take it from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.contract import Event
from contracts.cursor import Cursor
from contracts.events.plan_v1 import (
    Message,
    Part,
    PlanArtifactUpdated,
    PlanError,
    PlanStatusUpdated,
    TaskState,
    TaskStatus,
)
from contracts.subjects import PLAN

PlanData = PlanStatusUpdated | PlanArtifactUpdated | PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Of:
    owner: str
    plan_id: str
    # After it; None for one that is not stored yet.
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUpdate(_Of):
    """The plan's state, or a word about it."""

    data: PlanStatusUpdated

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return is_final(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactUpdate(_Of):
    """An artifact, or more of one."""

    data: PlanArtifactUpdated
    is_final = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblem(_Of):
    """Something went wrong; where it ends the plan, a final status update follows."""

    data: PlanError
    is_final = False


A2aEvent = StatusUpdate | ArtifactUpdate | PlanProblem


def a2a_event(data: PlanData, owner: str, cursor: Cursor | None = None) -> A2aEvent:
    """The event of this data."""
    if isinstance(data, PlanStatusUpdated):
        return StatusUpdate(owner=owner, plan_id=data.taskId, cursor=cursor, data=data)
    if isinstance(data, PlanArtifactUpdated):
        return ArtifactUpdate(owner=owner, plan_id=data.taskId, cursor=cursor, data=data)
    return PlanProblem(owner=owner, plan_id=data.taskId, cursor=cursor, data=data)


def from_stored(event: Event, cursor: Cursor) -> A2aEvent | None:
    """A stored event of the stream PLANS; None where it is none of a plan."""
    if not isinstance(event.data, PlanStatusUpdated | PlanArtifactUpdated | PlanError):
        return None
    owner, _ = PLAN.parse(event.envelope.subject)
    return a2a_event(event.data, owner, cursor)


def is_final(data: Any) -> bool:
    """Whether it is a plan's last event: only a status is, with a terminal state."""
    return isinstance(data, PlanStatusUpdated) and data.status.state.is_terminal


def error_as_status(error: PlanError, status: TaskStatus) -> PlanStatusUpdated:
    """An error as A2A's clients see it, given the status that the plan has."""
    state = status.state if not status.state.is_terminal else TaskState.WORKING
    told: Mapping[str, Any] = {"code": error.code, "message": error.message, "retryable": error.retryable}
    message = Message(
        messageId=f"error-{error.code}",
        role="ROLE_AGENT",
        parts=(Part(text=error.message),),
        taskId=error.taskId,
        contextId=error.contextId,
    )
    return PlanStatusUpdated(
        taskId=error.taskId,
        contextId=error.contextId,
        status=TaskStatus(state=state, message=message, timestamp=status.timestamp),
        metadata={"error": dict(told)},
    )
