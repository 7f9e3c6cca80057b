"""0.3's shapes are those that the SDK makes of the same objects."""

import base64
from typing import Any

import pytest
from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as v03
from a2a.types import a2a_pb2 as v1
from google.protobuf.json_format import MessageToDict, ParseDict

from services.gateway.a2a import legacy

PARTS: list[dict[str, Any]] = [
    {"text": "hello"},
    {"text": "hello", "metadata": {"lang": "en"}},
    {"data": {"a": 1, "b": [True, None]}},
    {"data": ["no", "object"]},
    {"data": 7.5, "metadata": {"unit": "m"}},
    {"raw": base64.b64encode(b"bytes").decode(), "mediaType": "image/png", "filename": "a.png"},
    {"url": "https://example.com/a", "mediaType": "text/html"},
    {"url": "https://example.com/a"},
]
MESSAGE = {
    "messageId": "m1",
    "role": "ROLE_AGENT",
    "parts": PARTS,
    "contextId": "c1",
    "taskId": "t1",
    "referenceTaskIds": ["t0"],
    "extensions": ["urn:x"],
    "metadata": {"k": {"deep": "v"}},
}
ARTIFACT = {
    "artifactId": "a1",
    "name": "n",
    "description": "d",
    "parts": PARTS,
    "metadata": {"k": "v"},
    "extensions": ["urn:x"],
}
STATES = [name for name in v1.TaskState.DESCRIPTOR.values_by_name if name != "TASK_STATE_UNSPECIFIED"]
AT = "2026-11-20T10:00:00Z"


def by_the_sdk(kind: str, found: dict[str, Any]) -> Any:
    response = ParseDict({kind: found}, v1.StreamResponse())
    compat = conversions.to_compat_stream_response(response)
    return compat.result.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize("state", STATES)
def test_a_status_update_is_written_as_the_sdk_writes_it(state: str) -> None:
    update = {
        "taskId": "t1",
        "contextId": "c1",
        "status": {"state": state, "message": MESSAGE, "timestamp": AT},
        "metadata": {"cursor": "PLANS.0.7"},
    }
    assert legacy.stream_response("statusUpdate", update) == by_the_sdk("statusUpdate", update)


@pytest.mark.parametrize("more", [{}, {"append": True}, {"lastChunk": True, "metadata": {"cursor": "x"}}])
def test_an_artifact_update_is_written_as_the_sdk_writes_it(more: dict[str, Any]) -> None:
    update = {"taskId": "t1", "contextId": "c1", "artifact": ARTIFACT, **more}
    assert legacy.stream_response("artifactUpdate", update) == by_the_sdk("artifactUpdate", update)


@pytest.mark.parametrize(
    "more",
    [{}, {"history": [MESSAGE, {**MESSAGE, "role": "ROLE_USER"}], "artifacts": [ARTIFACT], "metadata": {"a": "b"}}],
)
def test_a_task_is_written_as_the_sdk_writes_it(more: dict[str, Any]) -> None:
    task = {"id": "t1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING", "timestamp": AT}, **more}
    assert legacy.task(task) == by_the_sdk("task", task)


def test_what_a_newer_publisher_wrote_becomes_no_error() -> None:
    assert legacy.stream_response("statusUpdate", {"status": {"state": "TASK_STATE_PONDERING"}})["status"] == {
        "state": "pondering"
    }
    assert legacy.task({"id": "t1"})["status"] == {"state": "unknown"}
    assert legacy.message({"parts": [{"hologram": 1}]})["parts"] == [{"kind": "file", "file": {"uri": ""}}]


def test_a_message_of_0_3_is_read_as_the_sdk_reads_it() -> None:
    core = ParseDict(MESSAGE, v1.Message())
    compat = conversions.to_compat_message(core).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert legacy.message_read(compat) == MESSAGE
    assert ParseDict(legacy.message_read({**compat, "role": "user"}), v1.Message()).role == v1.Role.ROLE_USER


@pytest.mark.parametrize("found", [None, 7, [], {"role": 3}, {"parts": 7}, {"parts": [None, {}, {"kind": "file"}, 7]}])
def test_what_is_no_message_is_left_for_the_plans_service_to_judge(found: Any) -> None:
    read = legacy.message_read(found)
    assert read == found


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"blocking": True},
        {"blocking": False, "historyLength": 0},
        {"historyLength": 5, "acceptedOutputModes": ["text/plain"]},
        {"pushNotificationConfig": {"url": "https://example.com"}},
    ],
)
def test_a_configuration_of_0_3_is_read_as_the_sdk_reads_it(told: dict[str, Any]) -> None:
    core = conversions.to_core_send_message_configuration(v03.MessageSendConfiguration.model_validate(told))
    assert ParseDict(legacy.configuration_read(told), v1.SendMessageConfiguration()) == core
    assert MessageToDict(core) is not None
