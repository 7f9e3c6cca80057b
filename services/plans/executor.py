"""What executes a plan: the interface, and what it is told.

An executor publishes through the queue it is given, and returns when the plan is over or waits for input. It may be
called again for the same turn, after its process was lost: the task says how far it came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from contracts.a2a import ArtifactUpdate, PlanProblem, StatusUpdate
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
from contracts.publishing import derived_id
from services.plans.queue import A2aEventQueue


@dataclass(frozen=True, slots=True)
class PlanContext:
    """One turn of one plan, and the words to speak of it."""

    owner: str
    plan_id: str
    context_id: str
    # What the user said last: what this turn is about.
    message: Message
    # The A2A task as it is, as ProtoJSON.
    task: dict[str, Any]
    # Which execution this is; grows.
    execution: int
    # Whether an execution of this turn was lost before.
    is_again: bool
    clock: Callable[[], datetime]

    @property
    def text(self) -> str:
        """The text of the user's message."""
        return "\n".join(part.text for part in self.message.parts if part.text is not None)

    def status(self, state: TaskState, text: str | None = None) -> StatusUpdate:
        """The plan is in this state; `text` is a word of the agent."""
        now = self.clock()
        message = None
        if text is not None:
            message = Message(
                messageId=derived_id("word", self.plan_id, self.execution, now.isoformat(), text),
                role="ROLE_AGENT",
                parts=(Part(text=text),),
                taskId=self.plan_id,
                contextId=self.context_id,
            )
        status = TaskStatus(state=state, message=message, timestamp=now)
        data = PlanStatusUpdated(taskId=self.plan_id, contextId=self.context_id, status=status)
        return StatusUpdate(owner=self.owner, plan_id=self.plan_id, data=data)

    def artifact(
        self,
        artifact_id: str,
        parts: Sequence[Part],
        *,
        name: str | None = None,
        append: bool = False,
        last: bool = False,
    ) -> ArtifactUpdate:
        """An artifact, or with `append` more parts of one; `last` where nothing will be added to it any more."""
        artifact = Artifact(artifactId=artifact_id, parts=tuple(parts), name=name)
        data = PlanArtifactUpdated(
            taskId=self.plan_id,
            contextId=self.context_id,
            artifact=artifact,
            append=append or None,
            lastChunk=last or None,
        )
        return ArtifactUpdate(owner=self.owner, plan_id=self.plan_id, data=data)

    def problem(self, code: str, message: str, *, retryable: bool = False) -> PlanProblem:
        """Something went wrong, and the plan goes on."""
        data = PlanError(
            taskId=self.plan_id, contextId=self.context_id, code=code, message=message, retryable=retryable
        )
        return PlanProblem(owner=self.owner, plan_id=self.plan_id, data=data)


class PlanExecutor(Protocol):
    """An agent's own work."""

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        """Take one turn: until the plan is over, or waits for input."""
        ...

    async def cancel(self, context: PlanContext, queue: A2aEventQueue) -> None:
        """The plan was cancelled: let go of what was begun elsewhere. Its own task ends right after."""
        ...
