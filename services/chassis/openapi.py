"""OpenAPI 3.1 of a publisher, made from its operations and their models: `GET /openapi.json`.

Says what the routes do, so it is made of the very declarations that make the routes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.errors import ErrorCode
from contracts.subjects import ID_PATTERN
from services.chassis.commands import Command, Operation, Query, Webhook

_REF = "#/components/schemas/{model}"
_PATH_ID = re.compile(r"{(\w+)}")
_ALWAYS = (ErrorCode.INTERNAL, ErrorCode.STORE_UNAVAILABLE)
_OF_TOKENS = (ErrorCode.UNAUTHENTICATED, ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED)
_OF_BODIES = (ErrorCode.INVALID_JSON, ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE)
_OF_WRITES = (ErrorCode.INVALID_COMMAND, ErrorCode.CONFLICT, ErrorCode.STORE_FULL)
_OF_COMMANDS = (ErrorCode.INVALID_IDEMPOTENCY_KEY, ErrorCode.IDEMPOTENCY_KEY_REUSED)
_CURSOR = {
    "type": "string",
    "description": "Subscribe from here at any gateway: nothing is missed, nothing comes twice.",
    "examples": ["MARKET.0mi7c3k9a.1042"],
}
_DONE: Mapping[str, Any] = {
    "type": "object",
    "required": ["id", "cursor"],
    "properties": {
        "id": {"type": "string", "description": "Of what was created or changed."},
        "cursor": {**_CURSOR, "description": "Of the last event that the command made."},
    },
}
_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `code` is for programs, `detail` for people.",
    "required": ["type", "title", "status", "detail", "code", "message", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "message": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retry_after_ms": {"type": "integer"},
        "pointer": {"type": "string", "description": "The first field that does not fit (RFC 6901)."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def document(service: str, description: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document."""
    schemas: dict[str, Any] = {"Done": _DONE, "Problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for operation in operations:
        method = "get" if isinstance(operation, Query) else "post"
        paths.setdefault(operation.path, {})[method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"a2a {service}", "version": "1", "description": description},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def openapi_route(found: Mapping[str, Any]) -> Route:
    """`GET /openapi.json`."""
    text = json.dumps(found, ensure_ascii=False, indent=1).encode()

    async def openapi(_: Request) -> Response:
        return Response(text, media_type="application/json", headers={"Cache-Control": "public, max-age=300"})

    return Route("/openapi.json", openapi)


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _name(operation),
        "parameters": [*_ids(operation.path), *_headers(operation)],
        "responses": {**_success(operation, schemas), **_refusals(_codes(operation))},
    }
    if not isinstance(operation, Webhook):
        found["security"] = [{"token": []}]
    if not isinstance(operation, Query):
        schema = _schema(operation.body, "validation", schemas)
        required = any(field.is_required() for field in operation.body.model_fields.values())
        body = {"schema": schema, "example": _example(operation.body)}
        found["requestBody"] = {"required": required, "content": {"application/json": body}}
    return found


def _name(operation: Operation) -> str:
    words = [word for word in re.split(r"[/{}_.-]+", operation.path) if word and word != "v1"]
    return "_".join(["get" if isinstance(operation, Query) else "post", *words])


def _ids(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in _PATH_ID.findall(path)]


def _headers(operation: Operation) -> list[dict[str, Any]]:
    match operation:
        case Command():
            key = {"type": "string", "minLength": 1, "maxLength": 128}
            told = "The same key again is the same command: it gets the same answer, and nothing happens twice."
            return [_header("Idempotency-Key", told, key)]
        case Webhook():
            return [_header(name, told, {"type": "string"}) for name, told in operation.headers.items()]
    return []


def _header(name: str, told: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": told, "schema": schema}


def _success(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(operation, Query):
        state = _schema(operation.answer, "serialization", schemas)
        answer: dict[str, Any] = {
            "type": "object",
            "required": ["state", "cursor"],
            "properties": {"state": state, "cursor": _CURSOR},
        }
        return {"200": {"description": "The state and its cursor.", "content": _json(answer)}}
    done = {"$ref": _REF.format(model="Done")}
    return {"201": {"description": "Done, now or at an earlier try.", "content": _json(done)}}


def _codes(operation: Operation) -> list[ErrorCode]:
    found = [*_ALWAYS, ErrorCode.NOT_FOUND] if _PATH_ID.search(operation.path) else [*_ALWAYS]
    match operation:
        case Command():
            found += [*_OF_TOKENS, *_OF_BODIES, *_OF_WRITES, *_OF_COMMANDS, *operation.refusals]
        case Webhook():
            found += [*_OF_BODIES, *_OF_WRITES, *operation.refusals]
        case Query():
            found += _OF_TOKENS
    return found


def _refusals(codes: Sequence[ErrorCode]) -> dict[str, Any]:
    by_status: dict[int, list[ErrorCode]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(code.status, []).append(code)
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {
        str(status): {"description": "; ".join(f"`{one.wire}`: {one.message}" for one in known), "content": problem}
        for status, known in sorted(by_status.items())
    }


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _schema(model: Any, mode: Literal["validation", "serialization"], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the model's schema, which is put into `schemas` with all that it refers to."""
    found = TypeAdapter(model).json_schema(mode=mode, ref_template=_REF)
    for name, schema in found.pop("$defs", {}).items():
        _put(schemas, name, schema)
    if "$ref" in found:
        return found
    name = getattr(model, "__name__", None)
    if name is None:
        return found
    _put(schemas, name, found)
    return {"$ref": _REF.format(model=name)}


def _put(schemas: dict[str, Any], name: str, schema: Any) -> None:
    if schemas.setdefault(name, schema) != schema:
        raise ValueError(f"two schemas are called {name}")


def _example(model: type[BaseModel]) -> dict[str, Any]:
    """A whole body, of the fields' own examples."""
    return {name: field.examples[0] for name, field in model.model_fields.items() if field.examples}
