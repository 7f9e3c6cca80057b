"""What a client is sent of an event: A2A's own objects, with the cursor; and nothing of what is no such object."""

import json
from typing import Any

import pytest
from a2a.types.a2a_pb2 import StreamResponse
from google.protobuf.json_format import ParseDict

from contracts.cursor import Cursor
from services.gateway.a2a.updates import Update, gap_update, state_after, state_of, update_of, with_cursor
from services.gateway.core.log import Entry, Life
from services.gateway.core.replay import Gap
from tests.harness.planner import artifact, problem, status

LIFE = Life("PLANS", "000000001")


def entry(document: Any, kind: str | None = None) -> Entry:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    named = kind or (document.get("type") if isinstance(document, dict) else None)
    return Entry(LIFE, 7, 0, (), named, False, payload)


def checked(update: Update | None) -> Update:
    """It is one that the SDK reads without a rest."""
    assert update is not None
    ParseDict({update.kind: update.body}, StreamResponse())
    return update


def test_a_status_is_sent_as_it_was_published_with_its_cursor() -> None:
    document = status("p1", "b1", "INPUT_REQUIRED", "which?")
    update = checked(update_of(entry(document), "p1", "TASK_STATE_WORKING"))
    assert (update.kind, update.state) == ("statusUpdate", "TASK_STATE_INPUT_REQUIRED")
    assert update.body == {**document["data"], "metadata": {"cursor": "PLANS.000000001.7"}}


def test_an_artifact_changes_no_state_and_keeps_its_own_metadata() -> None:
    document = artifact("p1", "b1", "one")
    document["data"]["metadata"] = {"mine": 1}
    update = checked(update_of(entry(document), "p1", "TASK_STATE_WORKING"))
    assert (update.kind, update.state) == ("artifactUpdate", "TASK_STATE_WORKING")
    assert update.body["metadata"] == {"mine": 1, "cursor": "PLANS.000000001.7"}


def test_an_error_is_told_as_what_the_agent_says_in_the_state_that_the_plan_has() -> None:
    document = problem("p1", "b1", "node_away", "no answer")
    update = checked(update_of(entry(document), "p1", "TASK_STATE_INPUT_REQUIRED"))
    assert (update.kind, update.state) == ("statusUpdate", "TASK_STATE_INPUT_REQUIRED")
    assert update.body["status"]["message"]["parts"] == [{"text": "no answer"}]
    assert update.body["metadata"]["error"] == {"code": "node_away", "message": "no answer", "retryable": True}


@pytest.mark.parametrize(
    "document",
    [
        {"type": "PLAN_STATUS_UPDATED"},
        {"type": "PLAN_STATUS_UPDATED", "data": None},
        {"type": "PLAN_STATUS_UPDATED", "data": []},
        {"type": "PLAN_STATUS_UPDATED", "data": {"state": "working"}},
        {"type": "PLAN_STATUS_UPDATED", "data": {"status": {"state": 7}}},
        {"type": "PLAN_ARTIFACT_UPDATED", "data": {"artifact": "a"}},
        {"type": "PLAN_REVIEWED", "data": {"status": {"state": "TASK_STATE_WORKING"}}},
        {"data": {"status": {"state": "TASK_STATE_WORKING"}}},
        b'{"type":"PLAN_ERROR","data":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=range(9),
)
def test_what_is_no_update_of_a_task_is_left_out(document: Any) -> None:
    found = entry(document, "PLAN_ERROR" if isinstance(document, bytes) else None)
    assert update_of(found, "p1", "TASK_STATE_WORKING") is None
    assert state_after(found, "TASK_STATE_WORKING") == "TASK_STATE_WORKING"


def test_no_event_speaks_for_another_task() -> None:
    update = update_of(entry(status("p2", "b1", "WORKING")), "p1", "")
    assert update is not None
    assert update.body["taskId"] == "p1"


def test_a_gap_is_a_status_that_tells_nothing_else() -> None:
    gap = Gap("expired", "PLANS.000000001.3", Cursor("PLANS", "000000001", 9))
    update = checked(gap_update("p1", "c1", "TASK_STATE_WORKING", gap, gap.to))
    assert update.body["status"] == {"state": "TASK_STATE_WORKING"}
    assert update.body["metadata"] == {
        "cursor": "PLANS.000000001.9",
        "gap": {"reason": "expired", "from": "PLANS.000000001.3", "to": "PLANS.000000001.9"},
    }


def test_a_task_says_where_it_holds() -> None:
    assert with_cursor({"id": "t", "metadata": {"a": 1}}, "c")["metadata"] == {"a": 1, "cursor": "c"}
    assert with_cursor({"id": "t"}, "c")["metadata"] == {"cursor": "c"}
    assert state_of({"status": "working"}) == ""
