"""A2A 0.3's shapes: objects of 1.0 written as 0.3 has them, and 0.3's messages read as 1.0's.

Tables and dictionaries, no SDK (docs/adr/0029); the tests hold them against the SDK's own conversions. What is
not of the expected form passes as it came: the plans service judges messages.
"""

from collections.abc import Callable, Mapping
from typing import Any

from services.gateway.a2a.updates import TERMINAL, Body

_STATE = "TASK_STATE_"
_ROLES = {"user": "ROLE_USER", "agent": "ROLE_AGENT"}
# Beside an object's `data`, what tells that the part was no object.
_WRAPPED = "data_part_compat"


# From 1.0 to 0.3.


def stream_response(kind: str, body: Body) -> Body:
    """A member of 1.0's `StreamResponse`, as 0.3's `result`."""
    return _WRITERS[kind](body)


def task(found: Body) -> Body:
    """A task."""
    written: Body = {"kind": "task", "id": found.get("id", ""), "contextId": found.get("contextId", "")}
    written["status"] = _status(found.get("status") or {})
    _put(written, "history", [message(one) for one in found.get("history") or ()])
    _put(written, "artifacts", [_artifact(one) for one in found.get("artifacts") or ()])
    _put(written, "metadata", found.get("metadata"))
    return written


def message(found: Mapping[str, Any]) -> Body:
    """A message."""
    written: Body = {
        "kind": "message",
        "messageId": found.get("messageId", ""),
        "role": "user" if found.get("role") == "ROLE_USER" else "agent",
        "parts": [_part(one) for one in found.get("parts") or ()],
    }
    for name in ("contextId", "taskId", "referenceTaskIds", "metadata", "extensions"):
        _put(written, name, found.get(name))
    return written


def _status_update(found: Body) -> Body:
    status = _status(found.get("status") or {})
    written: Body = {
        "kind": "status-update",
        "taskId": found.get("taskId", ""),
        "contextId": found.get("contextId", ""),
        "status": status,
        "final": (found.get("status") or {}).get("state") in TERMINAL,
    }
    _put(written, "metadata", found.get("metadata"))
    return written


def _artifact_update(found: Body) -> Body:
    written: Body = {
        "kind": "artifact-update",
        "taskId": found.get("taskId", ""),
        "contextId": found.get("contextId", ""),
        "artifact": _artifact(found.get("artifact") or {}),
        "append": bool(found.get("append", False)),
        "lastChunk": bool(found.get("lastChunk", False)),
    }
    _put(written, "metadata", found.get("metadata"))
    return written


def _status(found: Mapping[str, Any]) -> Body:
    state = str(found.get("state", ""))
    named = state.removeprefix(_STATE).lower().replace("_", "-") if state.startswith(_STATE) else ""
    written: Body = {"state": named if named not in ("", "unspecified") else "unknown"}
    if isinstance(found.get("message"), Mapping):
        written["message"] = message(found["message"])
    _put(written, "timestamp", found.get("timestamp"))
    return written


def _artifact(found: Mapping[str, Any]) -> Body:
    written: Body = {"artifactId": found.get("artifactId", "")}
    for name in ("name", "description"):
        _put(written, name, found.get(name))
    written["parts"] = [_part(one) for one in found.get("parts") or ()]
    for name in ("metadata", "extensions"):
        _put(written, name, found.get(name))
    return written


def _part(found: Mapping[str, Any]) -> Body:
    metadata = found.get("metadata")
    if "text" in found:
        written: Body = {"kind": "text", "text": found["text"]}
    elif "data" in found and isinstance(found["data"], Mapping):
        written = {"kind": "data", "data": found["data"]}
    elif "data" in found:
        written = {"kind": "data", "data": {"value": found["data"]}}
        metadata = {**(metadata or {}), _WRAPPED: True}
    else:
        file = {"bytes": found["raw"]} if "raw" in found else {"uri": found.get("url", "")}
        _put(file, "mimeType", found.get("mediaType"))
        _put(file, "name", found.get("filename"))
        written = {"kind": "file", "file": file}
    _put(written, "metadata", metadata)
    return written


def _put(into: Body, name: str, value: Any) -> None:
    """As 0.3's servers do: what is empty is left out."""
    if value:
        into[name] = value


_WRITERS: Mapping[str, Callable[[Body], Body]] = {
    "task": task,
    "statusUpdate": _status_update,
    "artifactUpdate": _artifact_update,
}


# From 0.3 to 1.0.


def message_read(found: Any) -> Any:
    """A message that a client of 0.3 sends, as 1.0 has it."""
    if not isinstance(found, Mapping):
        return found
    read = {name: value for name, value in found.items() if name not in ("kind", "role", "parts") and value is not None}
    if "role" in found:
        read["role"] = _ROLES.get(found["role"], found["role"]) if isinstance(found["role"], str) else found["role"]
    if "parts" in found:
        parts = found["parts"]
        read["parts"] = [_part_read(one) for one in parts] if isinstance(parts, list) else parts
    return read


def configuration_read(found: Mapping[str, Any]) -> Body:
    """What a client of 0.3 says of how it wants to be answered, as 1.0 has it."""
    read: Body = {}
    _put(read, "acceptedOutputModes", found.get("acceptedOutputModes"))
    _put(read, "taskPushNotificationConfig", found.get("pushNotificationConfig"))
    # To 0.3 a length of 0 is no limit.
    _put(read, "historyLength", found.get("historyLength"))
    if found.get("blocking") is not None:
        read["returnImmediately"] = not found["blocking"]
    return read


def _part_read(found: Any) -> Any:
    if not isinstance(found, Mapping):
        return found
    metadata = dict(found["metadata"]) if isinstance(found.get("metadata"), Mapping) else {}
    read: Body
    match found.get("kind"):
        case "text":
            read = {"text": found.get("text")}
        case "data":
            wrapped = metadata.pop(_WRAPPED, False) and isinstance(found.get("data"), Mapping)
            read = {"data": found["data"].get("value") if wrapped else found.get("data")}
        case "file" if isinstance(found.get("file"), Mapping):
            read = _file_read(found["file"])
        case _:
            return dict(found)
    _put(read, "metadata", metadata)
    return read


def _file_read(file: Mapping[str, Any]) -> Body:
    read: Body = {"raw": file["bytes"]} if "bytes" in file else {"url": file.get("uri")}
    _put(read, "mediaType", file.get("mimeType"))
    _put(read, "filename", file.get("name"))
    return read
