"""What A2A's clients are told when something is refused: the spec's errors with their numbers, for both bindings.

A refusal of the gateway or of the plans service comes in as a wire code and goes out as one of these. What
A2A gives no number (a token, a limit, a drain) bears the status HTTP has for it, and -32000 over JSON-RPC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from contracts.errors import Problem

_DOMAIN = "a2a-protocol.org"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


class Kind(Enum):
    """Each error: JSON-RPC number, HTTP status, google.rpc code, reason, default message."""

    TASK_NOT_FOUND = (-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND", "Task not found")
    TASK_NOT_CANCELABLE = (-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE", "Task cannot be canceled")
    PUSH_NOT_SUPPORTED = (
        -32003,
        400,
        "FAILED_PRECONDITION",
        "PUSH_NOTIFICATION_NOT_SUPPORTED",
        "Push Notification is not supported",
    )
    UNSUPPORTED_OPERATION = (
        -32004,
        400,
        "FAILED_PRECONDITION",
        "UNSUPPORTED_OPERATION",
        "This operation is not supported",
    )
    NO_EXTENDED_CARD = (
        -32007,
        400,
        "FAILED_PRECONDITION",
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
        "Authenticated Extended Card is not configured",
    )
    VERSION_NOT_SUPPORTED = (-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED", "Version not supported")
    INVALID_JSON = (-32700, 400, "INVALID_ARGUMENT", "INVALID_REQUEST", "Invalid JSON payload")
    INVALID_REQUEST = (-32600, 400, "INVALID_ARGUMENT", "INVALID_REQUEST", "Invalid Request")
    METHOD_NOT_FOUND = (-32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND", "Method not found")
    INVALID_PARAMS = (-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS", "Invalid params")
    INTERNAL = (-32603, 500, "INTERNAL", "INTERNAL_ERROR", "Internal error")
    # Without a number of A2A's own.
    UNAUTHENTICATED = (-32000, 401, "UNAUTHENTICATED", "UNAUTHENTICATED", "A bearer token is required.")
    FORBIDDEN = (-32000, 403, "PERMISSION_DENIED", "FORBIDDEN", "The token does not allow this.")
    CONFLICT = (-32000, 409, "ABORTED", "CONFLICT", "Others change the same thing at the same time.")
    TOO_LARGE = (-32000, 413, "INVALID_ARGUMENT", "TOO_LARGE", "The body is too large.")
    TOO_MANY = (-32000, 429, "RESOURCE_EXHAUSTED", "TOO_MANY", "Too many at once.")
    UNAVAILABLE = (-32000, 503, "UNAVAILABLE", "UNAVAILABLE", "This cannot be had just now.")

    def __init__(self, number: int, http: int, status: str, reason: str, message: str) -> None:
        self.number = number
        self.http = http
        self.status = status
        self.reason = reason
        self.message = message


# By wire code; what is missing here follows from the code's HTTP status.
_OF_CODE = {
    "not_found": Kind.TASK_NOT_FOUND,
    "not_cancelable": Kind.TASK_NOT_CANCELABLE,
    "plan_closed": Kind.UNSUPPORTED_OPERATION,
    "message_too_large": Kind.TOO_LARGE,
}
_OF_STATUS = {
    400: Kind.INVALID_PARAMS,
    401: Kind.UNAUTHENTICATED,
    403: Kind.FORBIDDEN,
    404: Kind.TASK_NOT_FOUND,
    409: Kind.CONFLICT,
    413: Kind.TOO_LARGE,
    422: Kind.INVALID_PARAMS,
    429: Kind.TOO_MANY,
    503: Kind.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One refusal, as a value."""

    kind: Kind
    message: str = ""
    # What the gateway says of it elsewhere, where it says more than the kind does.
    problem: Problem | None = None
    # Field -> what is wrong with it.
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The message, or the kind's own."""
        return self.message or self.kind.message

    @property
    def code(self) -> str | None:
        """The gateway's own code."""
        return None if self.problem is None else self.problem.code.wire

    @property
    def retryable(self) -> bool:
        """Whether the same can succeed later."""
        return self.problem is not None and self.problem.may_retry

    def details(self) -> list[dict[str, Any]]:
        """Google's error details, as A2A 1.0 has them in both bindings."""
        metadata = {"retryable": "true" if self.retryable else "false"}
        if self.code is not None:
            metadata["code"] = self.code
        if self.problem is not None and self.problem.retry_after_ms is not None:
            metadata["retryAfterMs"] = str(self.problem.retry_after_ms)
        found: list[dict[str, Any]] = [
            {"@type": _ERROR_INFO, "reason": self.kind.reason, "domain": _DOMAIN, "metadata": metadata}
        ]
        if self.fields:
            violations = [{"field": name, "description": why} for name, why in self.fields.items()]
            found.append({"@type": _BAD_REQUEST, "fieldViolations": violations})
        return found


class Failed(Exception):
    """A fault on its way out of nested calls."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def failed(kind: Kind, message: str = "", **fields: str) -> Failed:
    """The exception for `kind`; `fields`: what is wrong with which."""
    return Failed(Fault(kind, message, fields=fields))


def not_found() -> Failed:
    """The one answer for a task that is unknown, for a stranger's, and for an id that can be none."""
    return Failed(Fault(Kind.TASK_NOT_FOUND))


def fault_of(problem: Problem) -> Fault:
    """The fault that tells a problem."""
    kind = _OF_CODE.get(problem.code.wire) or _OF_STATUS.get(problem.code.status, Kind.INTERNAL)
    if kind is Kind.TASK_NOT_FOUND:
        return not_found().fault
    named = problem.details.get("field")
    fields = {str(named): problem.text} if named is not None else {}
    return Fault(kind, problem.text, problem, fields)
