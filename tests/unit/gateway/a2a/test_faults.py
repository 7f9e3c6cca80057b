"""Errors bear the numbers, statuses and reasons of the specification, which the SDK has in its tables."""

import json
from typing import Any

import pytest
from a2a.client.transports.rest import _parse_rest_error
from a2a.utils.errors import A2A_ERROR_MAPPING, JSON_RPC_ERROR_CODE_MAP, InvalidParamsError

from contracts.errors import ErrorCode, Problem
from services.gateway.a2a.dialects import JsonRpc, JsonRpc03, Rest
from services.gateway.a2a.faults import Fault, Kind, fault_of

NUMBERED = [kind for kind in Kind if kind.number != -32000]


@pytest.mark.parametrize("kind", NUMBERED, ids=lambda kind: kind.name)
def test_a_numbered_error_is_the_sdks(kind: Kind) -> None:
    (error,) = [one for one, number in JSON_RPC_ERROR_CODE_MAP.items() if number == kind.number]
    if kind is not Kind.INVALID_JSON:  # it has a number of JSON-RPC's, and no entry of its own
        assert A2A_ERROR_MAPPING[error] == (kind.http, kind.status, kind.reason)
        assert error.message == kind.message
        told = json.loads(Rest().error(Fault(kind)))
        assert type(_parse_rest_error(told, "")) is error


def test_json_rpc_tells_an_error_with_its_details() -> None:
    told = json.loads(JsonRpc("7").error(Fault(Kind.INVALID_PARAMS, "no", fields={"id": "is missing"})))
    assert (told["jsonrpc"], told["id"]) == ("2.0", "7")
    assert (told["error"]["code"], told["error"]["message"]) == (-32602, "no")
    info, violations = told["error"]["data"]
    assert (info["@type"], info["reason"]) == ("type.googleapis.com/google.rpc.ErrorInfo", "INVALID_PARAMS")
    assert info["domain"] == "a2a-protocol.org"
    assert violations["fieldViolations"] == [{"field": "id", "description": "is missing"}]


def test_rest_tells_it_as_a_google_status() -> None:
    problem = Problem(ErrorCode.DRAINING, retry_after_ms=500)
    told = json.loads(Rest().error(fault_of(problem)))["error"]
    assert (told["code"], told["status"], told["message"]) == (503, "UNAVAILABLE", problem.text)
    assert told["details"][0]["metadata"] == {"retryable": "true", "code": "draining", "retryAfterMs": "500"}


def test_0_3_tells_it_in_its_own_words() -> None:
    told = json.loads(JsonRpc03(1).error(fault_of(Problem(ErrorCode.REVOKED))))["error"]
    assert told == {
        "code": -32000,
        "message": "Access has been revoked.",
        "data": {"reason": "FORBIDDEN", "code": "revoked", "retryable": False},
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCode.NOT_FOUND, Kind.TASK_NOT_FOUND),
        (ErrorCode.NOT_CANCELABLE, Kind.TASK_NOT_CANCELABLE),
        (ErrorCode.PLAN_CLOSED, Kind.UNSUPPORTED_OPERATION),
        (ErrorCode.INPUT_NOT_EXPECTED, Kind.CONFLICT),
        (ErrorCode.PLAN_FULL, Kind.CONFLICT),
        (ErrorCode.INVALID_MESSAGE, Kind.INVALID_PARAMS),
        (ErrorCode.INVALID_CURSOR, Kind.INVALID_PARAMS),
        (ErrorCode.UNAUTHENTICATED, Kind.UNAUTHENTICATED),
        (ErrorCode.TOKEN_EXPIRED, Kind.UNAUTHENTICATED),
        (ErrorCode.REVOKED, Kind.FORBIDDEN),
        (ErrorCode.CONFLICT, Kind.CONFLICT),
        (ErrorCode.MESSAGE_TOO_LARGE, Kind.TOO_LARGE),
        (ErrorCode.TOO_MANY_CONNECTIONS, Kind.TOO_MANY),
        (ErrorCode.UNAVAILABLE, Kind.UNAVAILABLE),
        (ErrorCode.INTERNAL, Kind.INTERNAL),
    ],
)
def test_every_refusal_of_the_system_has_its_error(code: ErrorCode, kind: Kind) -> None:
    assert fault_of(Problem(code)).kind is kind


def test_a_field_that_is_wrong_is_named() -> None:
    fault = fault_of(Problem(ErrorCode.INVALID_MESSAGE, "is empty", details={"field": "/message/parts"}))
    assert fault.fields == {"/message/parts": "is empty"}


def test_what_is_not_found_says_nothing_more_whoever_asks() -> None:
    known = fault_of(Problem(ErrorCode.NOT_FOUND, "there is no plan p1", details={"field": "id"}))
    assert known == Fault(Kind.TASK_NOT_FOUND)


def test_a_refusal_without_a_number_is_http_business_over_json_rpc_too() -> None:
    dialect: Any
    for dialect in (JsonRpc(1), JsonRpc03(1)):
        assert dialect.status(Fault(Kind.TASK_NOT_FOUND)) == 200
        assert dialect.status(Fault(Kind.UNAUTHENTICATED)) == 401
    assert InvalidParamsError.message == Kind.INVALID_PARAMS.message
