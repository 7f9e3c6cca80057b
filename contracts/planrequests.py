"""What is asked of plans over core NATS, `svc.plans.<op>`, and what is answered (docs/protocol.md, Plans).

A request is JSON with the headers `Authorization: Bearer <token>` and, where there is one, `traceparent`. The answer
is one of the answers here as JSON, or a `Refusal`. Tasks, messages and artifacts are A2A 1.0 as ProtoJSON; this
file decides their frame alone.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from contracts.wire import ErrorBody, StreamGap

QUEUE = "plans"
"""The queue group: each request is answered by one replica."""

LARGEST_PAGE = 100
DEFAULT_PAGE = 50

Json = dict[str, Any]
HistoryLength = Annotated[int, msgspec.Meta(ge=0)]


class GetPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """The task now; with `cursor` as of that cursor."""

    id: str
    # None: all messages that are kept.
    history_length: HistoryLength | None = None
    cursor: str | None = None


class ListPlans(msgspec.Struct, frozen=True, omit_defaults=True):
    """The asker's tasks, those that changed last first; an admin's are everybody's."""

    context_id: str | None = None
    # As `TASK_STATE_WORKING`.
    status: str | None = None
    page_size: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_PAGE)] = DEFAULT_PAGE
    page_token: str = ""
    history_length: HistoryLength | None = None
    # RFC 3339: those whose status is as late as this, or later.
    status_timestamp_after: str | None = None
    include_artifacts: bool = False


class StartPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message: one with a `taskId` continues that plan, another begins one, once for its `messageId`."""

    message: Json
    configuration: Json | None = None
    metadata: Json | None = None


class CancelPlan(msgspec.Struct, frozen=True):
    """End it, wherever it runs."""

    id: str


PlanRequest = GetPlan | ListPlans | StartPlan | CancelPlan

SUBJECTS: Mapping[type[PlanRequest], str] = {
    GetPlan: "svc.plans.get",
    ListPlans: "svc.plans.list",
    StartPlan: "svc.plans.start",
    CancelPlan: "svc.plans.cancel",
}


class PlanAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task as of `cursor`: who subscribes from there misses nothing and sees nothing twice."""

    task: Json
    cursor: str
    # Where it was asked as of a cursor and the events before that are not stored any more.
    gap: StreamGap | None = None


class PlansAnswer(msgspec.Struct, frozen=True):
    """A page of tasks, all as of `cursor`."""

    tasks: list[Json]
    # Empty on the last page.
    next_page_token: str
    total_size: int
    page_size: int
    cursor: str


class Refusal(msgspec.Struct, frozen=True):
    """Why not."""

    error: ErrorBody


def read_answer(payload: bytes, kind: type[PlanAnswer] | type[PlansAnswer]) -> PlanAnswer | PlansAnswer | Refusal:
    """An answer to a request that is answered by `kind`.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    if payload.startswith(b'{"error":'):
        return msgspec.json.decode(payload, type=Refusal)
    return msgspec.json.decode(payload, type=kind)
