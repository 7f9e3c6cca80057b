"""An agent written with a2a-sdk 1.x, executed as a plan: its own event queue leads into ours.

Nothing of the agent changes: `sdk_executor(agent)` is a `PlanExecutor`. What the SDK's request handler would keep in
its task store is the plan's fold here, so the agent gets its task back after a crash, too.
"""

from collections.abc import Sequence
from typing import Any

from a2a.auth.user import User
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import Event, EventQueue
from a2a.types.a2a_pb2 import (
    Message,
    SendMessageRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict, ParseDict

from contracts.a2a import PlanData, a2a_event
from contracts.events.plan_v1 import PlanArtifactUpdated, PlanStatusUpdated
from services.plans.executor import PlanContext, PlanExecutor
from services.plans.queue import A2aEventQueue


class PlanEventQueue(EventQueue):
    """The SDK's event queue for one turn; what is enqueued is stored when this returns."""

    def __init__(self, context: PlanContext, queue: A2aEventQueue) -> None:
        self._context = context
        self._queue = queue
        # The artifacts of the plan as far as this turn knows them, by id: what of a whole task is news.
        self._artifacts = {one["artifactId"]: one for one in context.task.get("artifacts", ())}

    async def enqueue_event(self, event: Event) -> None:
        """Publish it; of a whole task what the plan does not have yet.

        Raises:
            Refused: the plan is over, another execution has taken over, or it does not fit.
        """
        for data in self._data(event):
            await self._queue.publish(a2a_event(data, self._context.owner))
            if isinstance(data, PlanArtifactUpdated):
                self._note(data)

    def _data(self, event: Event) -> Sequence[PlanData]:
        if isinstance(event, TaskArtifactUpdateEvent):
            return (self._artifact(MessageToDict(event)),)
        if isinstance(event, TaskStatusUpdateEvent):
            return (self._status(event.status, event),)
        if isinstance(event, Task):
            return self._news(event)
        # An agent that answers with one message has done its task with it.
        return (self._status(TaskStatus(state=TaskState.TASK_STATE_COMPLETED, message=event)),)

    def _news(self, task: Task) -> Sequence[PlanData]:
        """The plan exists already: artifacts that it does not have like this, and the state unless it is the first."""
        made = [MessageToDict(one) for one in task.artifacts]
        told: list[PlanData] = [
            self._artifact({"artifact": one}) for one in made if self._artifacts.get(one.get("artifactId", "")) != one
        ]
        if task.status.state not in (TaskState.TASK_STATE_UNSPECIFIED, TaskState.TASK_STATE_SUBMITTED):
            told.append(self._status(task.status))
        return told

    def _artifact(self, update: dict[str, Any]) -> PlanArtifactUpdated:
        return PlanArtifactUpdated.model_validate({**update, **self._ids()})

    def _note(self, data: PlanArtifactUpdated) -> None:
        told = data.artifact.model_dump(mode="json", exclude_none=True)
        known = self._artifacts.get(data.artifact.artifactId)
        if data.append and known is not None:
            told = {**known, "parts": [*known["parts"], *told["parts"]]}
        self._artifacts[data.artifact.artifactId] = told

    def _status(self, status: TaskStatus, event: TaskStatusUpdateEvent | None = None) -> PlanStatusUpdated:
        said = {} if event is None else MessageToDict(event)
        found = MessageToDict(status)
        found.setdefault("timestamp", self._context.clock().isoformat())
        return PlanStatusUpdated.model_validate({**said, **self._ids(), "status": found})

    def _ids(self) -> dict[str, str]:
        return {"taskId": self._context.plan_id, "contextId": self._context.context_id}


class SdkExecutor:
    """A plan executor that is an SDK agent."""

    def __init__(self, agent: AgentExecutor) -> None:
        self._agent = agent

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        """One turn of the agent."""
        await self._agent.execute(_request(context), PlanEventQueue(context, queue))

    async def cancel(self, context: PlanContext, queue: A2aEventQueue) -> None:
        """Tell the agent; the plan is cancelled already, so what it says of that is not needed."""
        await self._agent.cancel(_request(context), _Unheard())


class _Unheard(EventQueue):
    """Where an agent announces the end of a plan that has ended."""

    async def enqueue_event(self, event: Event) -> None:
        """Nothing."""


def sdk_executor(agent: AgentExecutor) -> PlanExecutor:
    """The agent as an executor of plans."""
    return SdkExecutor(agent)


class _Owner(User):
    """Whose the plan is: to the agent, who asks."""

    def __init__(self, sub: str) -> None:
        self._sub = sub

    @property
    def is_authenticated(self) -> bool:
        """The plan's owner is, by the token that began it."""
        return True

    @property
    def user_name(self) -> str:
        """The token's `sub`."""
        return self._sub


def _request(context: PlanContext) -> RequestContext:
    message = ParseDict(context.message.model_dump(mode="json", exclude_none=True), Message())
    task = ParseDict(context.task, Task())
    asked = SendMessageRequest(message=message, metadata=task.metadata)
    call = ServerCallContext(user=_Owner(context.owner))
    return RequestContext(call, asked, context.plan_id, context.context_id, task)
