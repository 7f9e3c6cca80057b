"""The events of plans, as data: each type and version with its model, its subject and a whole example."""

from collections.abc import Mapping
from typing import Any

from contracts.contract import Contract, Model
from contracts.events import plan_v1
from contracts.subjects import PLAN

_TASK = {"taskId": "plan_4c1d", "contextId": "context_9e02"}


def _plan(kind: str, model: Model, example: Mapping[str, Any]) -> Contract:
    return Contract(
        kind,
        1,
        model,
        "PLANS",
        PLAN,
        {"plan": "taskId"},
        {},
        {**_TASK, **example},
        given={"owner": "buyer_ada"},
    )


PLAN_EVENTS = (
    _plan(
        "PLAN_STATUS_UPDATED",
        plan_v1.PlanStatusUpdated,
        {
            "status": {
                "state": "TASK_STATE_WORKING",
                "message": {
                    "messageId": "message_70b3",
                    "role": "ROLE_AGENT",
                    "parts": [{"text": "Comparing three quotes."}],
                },
                "timestamp": "2026-11-20T10:00:00Z",
            },
        },
    ),
    _plan(
        "PLAN_ARTIFACT_UPDATED",
        plan_v1.PlanArtifactUpdated,
        {
            "artifact": {
                "artifactId": "shortlist",
                "name": "Shortlist",
                "parts": [{"text": "node_oslo, 1250.00 EUR"}],
            },
            "append": True,
            "lastChunk": True,
        },
    ),
    _plan(
        "PLAN_ERROR",
        plan_v1.PlanError,
        {"code": "quote_source_away", "message": "One node did not answer; going on without it.", "retryable": True},
    ),
)
