"""Events of a plan, version 1: what happened to an A2A 1.0 task, in A2A's own form (ProtoJSON) and with its names.

The `data` of the first two is a TaskStatusUpdateEvent and a TaskArtifactUpdateEvent; a task's id is the plan's id.
Whose the plan is stands in the subject alone, since A2A has no field for it.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts.events.data import Data, Id
from contracts.events.moment import Moment

# Ids that clients and agents make up; no tokens of subjects.
OwnId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/_-]*={0,2}$")]
DEEPEST_JSON = 24
"""How deep JSON within an event may be nested: what is deeper no A2A client in protobuf's terms can read."""


def _not_too_deep(found: Any) -> Any:
    layer, depth = [found], 0
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        depth += 1
        if depth > DEEPEST_JSON:
            raise ValueError(f"JSON is nested {DEEPEST_JSON} deep at most")
        layer = [child for one in layer for child in (one.values() if isinstance(one, dict) else one)]
    return found


Anything = Annotated[dict[str, Any], AfterValidator(_not_too_deep)]


class TaskState(StrEnum):
    """Where a task is."""

    SUBMITTED = "TASK_STATE_SUBMITTED"
    WORKING = "TASK_STATE_WORKING"
    INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"
    AUTH_REQUIRED = "TASK_STATE_AUTH_REQUIRED"
    COMPLETED = "TASK_STATE_COMPLETED"
    FAILED = "TASK_STATE_FAILED"
    CANCELED = "TASK_STATE_CANCELED"
    REJECTED = "TASK_STATE_REJECTED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing may follow."""
        return self in _TERMINAL

    @property
    def takes_input(self) -> bool:
        """Whether a message continues it."""
        return self in (TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED)


_TERMINAL = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED})


class Part(Data):
    """A piece of content: text, bytes in base64, an address, or JSON."""

    text: str | None = None
    raw: Base64 | None = None
    url: str | None = None
    data: Annotated[Any, AfterValidator(_not_too_deep)] = None
    metadata: Anything | None = None
    filename: str | None = None
    mediaType: str | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if sum(one is not None for one in (self.text, self.raw, self.url, self.data)) != 1:
            raise ValueError("a part has exactly one of text, raw, url and data")
        return self


class Message(Data):
    """One thing said by the user or by the agent."""

    messageId: OwnId
    role: Literal["ROLE_USER", "ROLE_AGENT"]
    parts: tuple[Part, ...] = Field(min_length=1)
    contextId: OwnId | None = None
    taskId: OwnId | None = None
    metadata: Anything | None = None
    extensions: tuple[str, ...] | None = None
    referenceTaskIds: tuple[str, ...] | None = None


class Artifact(Data):
    """What a task makes."""

    artifactId: OwnId
    parts: tuple[Part, ...] = Field(min_length=1)
    name: str | None = None
    description: str | None = None
    metadata: Anything | None = None
    extensions: tuple[str, ...] | None = None


class TaskStatus(Data):
    """A state, since when, and what was said with it."""

    state: TaskState
    message: Message | None = None
    timestamp: Moment


class PlanStatusUpdated(Data):
    """The plan's state, or a word about it; one with a terminal state is a plan's last event."""

    taskId: Id
    contextId: OwnId
    status: TaskStatus
    metadata: Anything | None = None


class PlanArtifactUpdated(Data):
    """An artifact as a whole, or with `append` more parts of one that was told before."""

    taskId: Id
    contextId: OwnId
    artifact: Artifact
    append: bool | None = Field(default=None, strict=True)
    lastChunk: bool | None = Field(default=None, strict=True)
    metadata: Anything | None = None


class PlanError(Data):
    """Something went wrong; where the plan ends by it, a PLAN_STATUS_UPDATED follows at once."""

    taskId: Id
    contextId: OwnId
    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    message: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    retryable: bool = Field(strict=True)
    details: Anything | None = None
