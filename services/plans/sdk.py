"""An agent written with a2a-sdk 1.x, executed as a plan: its own event queue leads into ours.

Nothing of the agent changes: `sdk_executor(agent)` is a `PlanExecutor`. What the SDK's request handler would keep in
its task store is the plan's fold here, so the agent gets its task back after a crash, too.
"""

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

    async def enqueue_event(self, event: Event) -> None:
        """Publish it.

        Raises:
            Refused: the plan is over, another execution has taken over, or it does not fit.
        """
        data = self._data(event)
        if data is not None:
            await self._queue.publish(a2a_event(data, self._context.owner))

    def _data(self, event: Event) -> PlanData | None:
        if isinstance(event, TaskArtifactUpdateEvent):
            return PlanArtifactUpdated.model_validate({**MessageToDict(event), **self._ids()})
        if isinstance(event, TaskStatusUpdateEvent):
            return self._status(event.status, event)
        if isinstance(event, Task):
            # The plan exists already; only a state that it does not have yet is news.
            is_news = event.status.state not in (TaskState.TASK_STATE_UNSPECIFIED, TaskState.TASK_STATE_SUBMITTED)
            return self._status(event.status) if is_news else None
        # An agent that answers with one message has done its task with it.
        return self._status(TaskStatus(state=TaskState.TASK_STATE_COMPLETED, message=event))

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


def _request(context: PlanContext) -> RequestContext:
    message = ParseDict(context.message.model_dump(mode="json", exclude_none=True), Message())
    task = ParseDict(context.task, Task())
    return RequestContext(
        ServerCallContext(), SendMessageRequest(message=message), context.plan_id, context.context_id, task
    )
