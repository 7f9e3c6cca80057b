"""The contracts of plans: A2A's form is kept, what is no A2A is refused, and requests are read as they were made."""

import json
from typing import Any

import msgspec
import pytest

from contracts.a2a import ArtifactUpdate, PlanProblem, StatusUpdate, error_as_status, from_stored, is_final
from contracts.contract import ContractViolation
from contracts.cursor import Cursor
from contracts.events.plan_v1 import DEEPEST_JSON, PlanError, TaskState, TaskStatus
from contracts.planrequests import (
    SUBJECTS,
    CancelPlan,
    GetPlan,
    ListPlans,
    PlanAnswer,
    PlanRequest,
    PlansAnswer,
    Refusal,
    StartPlan,
    read_answer,
)
from contracts.publishing import read
from contracts.registry import REGISTRY
from contracts.wire import ErrorBody, StreamGap
from tests.harness.events import event

AT = Cursor("PLANS", "0mi7c3k9x", 7)


def status(**changed: Any) -> dict[str, Any]:
    return event("PLAN_STATUS_UPDATED", data={"status": {"state": "TASK_STATE_WORKING", **changed}})


@pytest.mark.parametrize(
    "part",
    [{}, {"text": "a", "url": "b"}, {"raw": "not base64!"}, {"metadata": {}}],
    ids=["nothing", "two things", "no base64", "metadata alone"],
)
def test_a_part_is_exactly_one_of_its_four_things(part: dict[str, Any]) -> None:
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [part]}
    with pytest.raises(ContractViolation):
        REGISTRY.publication(status(timestamp="2026-11-20T10:00:00Z", message=message))


def nested(levels: int) -> Any:
    found: Any = 1
    for level in range(levels):
        found = {"a": found} if level % 2 else [found]
    return found


@pytest.mark.parametrize("where", ["data", "metadata"])
def test_json_of_an_event_is_as_deep_as_every_client_can_read_and_no_deeper(where: str) -> None:
    def published(levels: int) -> None:
        given = {"a": nested(levels - 1)}
        part = {"data": given} if where == "data" else {"text": "", "metadata": given}
        message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [part]}
        REGISTRY.publication(status(timestamp="2026-11-20T10:00:00Z", message=message))

    published(DEEPEST_JSON)
    with pytest.raises(ContractViolation, match="deep"):
        published(DEEPEST_JSON + 1)


@pytest.mark.parametrize("changed", [{"state": "working"}, {"state": "TASK_STATE_UNSPECIFIED"}, {}])
def test_a_state_is_one_of_a2as_and_has_its_time(changed: dict[str, Any]) -> None:
    with pytest.raises(ContractViolation):
        REGISTRY.publication(status(**changed))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("PLAN_STATUS_UPDATED", StatusUpdate),
        ("PLAN_ARTIFACT_UPDATED", ArtifactUpdate),
        ("PLAN_ERROR", PlanProblem),
    ],
)
def test_a_stored_event_of_a_plan_is_an_a2a_event_with_owner_plan_and_cursor(kind: str, wanted: type) -> None:
    document = event(kind)
    found = from_stored(read(REGISTRY.publication(document).payload), AT)
    assert isinstance(found, wanted)
    assert found is not None
    assert (found.owner, found.plan_id, found.cursor) == ("buyer_ada", "plan_4c1d", AT)
    assert found.is_final is False


def test_what_is_no_event_of_a_plan_is_no_a2a_event() -> None:
    assert from_stored(read(REGISTRY.publication(event("ORDER_CREATED")).payload), AT) is None


@pytest.mark.parametrize("state", list(TaskState))
def test_a_plans_last_event_is_a_status_with_a_terminal_state(state: TaskState) -> None:
    document = status(state=state.value, timestamp="2026-11-20T10:00:00Z")
    ends = state.name in ("COMPLETED", "FAILED", "CANCELED", "REJECTED")
    assert is_final(read(REGISTRY.publication(document).payload).data) is ends
    assert state.takes_input is (state.name in ("INPUT_REQUIRED", "AUTH_REQUIRED"))


def test_a_clients_view_of_an_error_is_a_status_that_does_not_end_the_plan() -> None:
    error = PlanError(taskId="p", contextId="c", code="lost", message="It was lost.", retryable=True)
    for state, seen in [("TASK_STATE_INPUT_REQUIRED",) * 2, ("TASK_STATE_FAILED", "TASK_STATE_WORKING")]:
        had = TaskStatus.model_validate({"state": state, "timestamp": "2026-11-20T10:00:00Z"})
        told = json.loads(error_as_status(error, had).model_dump_json(exclude_none=True))
        assert told["status"]["state"] == seen
        assert told["status"]["message"]["parts"] == [{"text": "It was lost."}]
        assert told["metadata"] == {"error": {"code": "lost", "message": "It was lost.", "retryable": True}}


@pytest.mark.parametrize(
    "request_",
    [
        GetPlan("p", 0, str(AT)),
        ListPlans(status="TASK_STATE_WORKING", page_size=3),
        StartPlan({"messageId": "m"}),
        CancelPlan("p"),
    ],
)
def test_a_request_is_read_as_it_was_made(request_: PlanRequest) -> None:
    assert msgspec.json.decode(msgspec.json.encode(request_), type=type(request_)) == request_
    assert (
        SUBJECTS[type(request_)]
        == f"svc.plans.{type(request_).__name__.removesuffix('s').removesuffix('Plan').lower()}"
    )


def test_an_answer_is_told_from_a_refusal() -> None:
    task = PlanAnswer({"id": "p"}, str(AT), StreamGap("expired", "PLANS.0mi7c3k9x.1", str(AT)))
    page = PlansAnswer([{"id": "p"}], "", 1, 50, str(AT))
    refusal = Refusal(ErrorBody("not_found", "no", False))
    assert read_answer(msgspec.json.encode(task), PlanAnswer) == task
    assert read_answer(msgspec.json.encode(page), PlansAnswer) == page
    assert read_answer(msgspec.json.encode(refusal), PlansAnswer) == refusal
