"""From an event of a plan to what an A2A client is sent of it: a `StreamResponse` of A2A 1.0, as a dictionary.

The contracts of the PLANS events hold A2A's own objects in `data`, so little is decided here: where the cursor
goes, how an error is told, what no A2A client can be shown. Pure; never raises for what a publisher wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts.cursor import Cursor
from services.gateway.core.log import Entry
from services.gateway.core.replay import Gap

TERMINAL = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"})
# States in which a plan waits for its client: a blocking call ends there.
INTERRUPTED = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
WORKING = "TASK_STATE_WORKING"

_STATUS = "PLAN_STATUS_UPDATED"
_ARTIFACT = "PLAN_ARTIFACT_UPDATED"
_ERROR = "PLAN_ERROR"

Body = dict[str, Any]


class _Data(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Update:
    """One member of A2A's `StreamResponse`, and the plan's state once it is applied."""

    kind: str
    body: Body
    state: str


def update_of(entry: Entry, plan: str, state: str) -> Update | None:
    """What a client in `state` is sent of this event; None where it holds nothing for an A2A client."""
    data = _data(entry)
    if data is None:
        return None
    cursor = str(entry.life.cursor(entry.sequence))
    if entry.type == _ERROR:
        return Update("statusUpdate", _error(data, plan, state, cursor), state)
    body = {**data, "taskId": plan, "metadata": {**_mapping(data.get("metadata")), "cursor": cursor}}
    if entry.type == _STATUS and state_of(data):
        return Update("statusUpdate", body, state_of(data))
    if entry.type == _ARTIFACT and isinstance(data.get("artifact"), dict):
        return Update("artifactUpdate", body, state)
    return None


def state_after(entry: Entry, state: str) -> str:
    """The state of a plan that was in `state`, after this event."""
    if entry.type != _STATUS:
        return state
    return state_of(_data(entry) or {}) or state


def gap_update(plan: str, context: str, state: str, gap: Gap, at: Cursor) -> Update:
    """A status update that tells of a gap alone: events in (from, to] may be missing; its client is `at` then."""
    named = {"reason": gap.reason, "from": gap.start, "to": str(gap.to)}
    return Update("statusUpdate", _status(plan, context, state, {"cursor": str(at), "gap": named}), state)


def state_of(status_bearer: Mapping[str, Any]) -> str:
    """The state of a task or a status update; empty where it has none."""
    state = _mapping(status_bearer.get("status")).get("state")
    return state if isinstance(state, str) else ""


def with_cursor(task: Mapping[str, Any], cursor: str) -> Body:
    """The task, with the cursor at which it holds in its metadata."""
    return {**task, "metadata": {**_mapping(task.get("metadata")), "cursor": cursor}}


def _data(entry: Entry) -> Body | None:
    try:
        found = msgspec.json.decode(msgspec.json.decode(entry.payload, type=_Data).data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _error(data: Mapping[str, Any], plan: str, state: str, cursor: str) -> Body:
    """A2A has no update for an error that does not end a task: it is told as what the agent says meanwhile."""
    told = {name: data[name] for name in ("code", "message", "retryable", "details") if name in data}
    context = str(data.get("contextId", ""))
    body = _status(plan, context, state, {"cursor": cursor, "error": told})
    body["status"]["message"] = {
        "messageId": f"error-{cursor}",
        "role": "ROLE_AGENT",
        "taskId": plan,
        "contextId": context,
        "parts": [{"text": str(data.get("message", ""))}],
    }
    return body


def _status(plan: str, context: str, state: str, metadata: Body) -> Body:
    return {"taskId": plan, "contextId": context, "status": {"state": state}, "metadata": metadata}


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
