"""The HTTP side of a publisher: commands and queries, declared as data and judged in one place.

Judges from the outside in: token, idempotency key, content type, size, JSON, body. What passes is handed to the
service's own function with a cause that is the same for every repetition. Never decides what a command may do.
"""

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
from prometheus_client import Histogram
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.contract import Violation, pointer
from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import Principal
from contracts.subjects import is_id
from services.chassis.aggregates import Cause
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.problems import EXCEPTION_HANDLERS, problem_response
from services.chassis.traces import traceparent_of

LARGEST_BODY_BYTES = 64 * 1024
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,126}[\x21-\x7e])?")
_NO_STORE = {"Cache-Control": "no-store"}
_GONE = 499

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Asked(Generic[Body]):
    """One command as it arrived: who wants what, and the cause that its events will bear."""

    principal: Principal
    # The ids in the path, by name.
    ids: Mapping[str, str]
    body: Body
    # The idempotency key.
    key: str
    cause: Cause


class Done(Protocol):
    """What a command came to."""

    @property
    def id(self) -> str:
        """Of the aggregate that it changed."""

    @property
    def cursor(self) -> Cursor:
        """Of its last event there."""


class Found(Protocol):
    """What a query found."""

    @property
    def state(self) -> Any:
        """As the query's `answer` says."""

    @property
    def cursor(self) -> Cursor:
        """At which the state holds: subscribe from there."""


class InvalidCommand(Refused):
    """The body does not fit; `violations` point into it."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        first = violations[0]
        super().__init__(Problem(ErrorCode.INVALID_COMMAND, f"{first.pointer or 'the body'}: {first.message}{more}"))
        self.violations = tuple(violations)


@dataclass(frozen=True, kw_only=True)
class Command:
    """`POST`: changes an aggregate, answers 201 with its id and cursor."""

    path: str
    summary: str
    body: type[BaseModel]
    handle: Callable[[Asked[Any]], Awaitable[Done]]
    # What it may be refused with, beside what every command may.
    refusals: tuple[ErrorCode, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Query:
    """`GET`: answers 200 with a state and the cursor at which it holds."""

    path: str
    summary: str
    # A model or a dataclass.
    answer: Any
    handle: Callable[[Principal, Mapping[str, str]], Awaitable[Found]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of somebody who has no token and signs instead; nothing of it was judged but its size."""

    ids: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    traceparent: str | None


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """`POST` of a signed message; its function judges the signature, then the body by `parsed`."""

    path: str
    summary: str
    body: type[BaseModel]
    handle: Callable[[Delivery], Awaitable[Done]]
    # Header -> what it is.
    headers: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[ErrorCode, ...] = ()


Operation = Command | Query | Webhook


def parsed(model: type[Body], body: bytes) -> Body:
    """The body as its model has it; nothing at all is an empty object.

    Raises:
        InvalidCommand: it does not fit.
        Refused: `invalid_json`.
    """
    try:
        document = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Problem(ErrorCode.INVALID_JSON, f"not JSON in UTF-8: {error}"[:300])) from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidCommand([Violation(pointer(one["loc"]), one["msg"]) for one in error.errors()]) from error


async def _on_invalid(_: Request, found: Exception) -> Response:
    error = cast(InvalidCommand, found)
    errors = [{"pointer": one.pointer, "detail": one.message} for one in error.violations]
    return problem_response(error.problem, pointer=errors[0]["pointer"], errors=errors)


# For `Starlette(exception_handlers=...)`.
COMMAND_EXCEPTION_HANDLERS = {**EXCEPTION_HANDLERS, InvalidCommand: _on_invalid}


class Operations:
    """The routes of one service's operations."""

    def __init__(
        self, operations: Sequence[Operation], verifier: TokenVerifier, bodies: Bodies, seconds: Histogram
    ) -> None:
        """`seconds` takes the time of each request, by operation and outcome."""
        self._operations = operations
        self._verifier = verifier
        self._bodies = bodies
        self._seconds = seconds

    def routes(self) -> list[Route]:
        """For the app."""
        return [self._route(operation) for operation in self._operations]

    def _route(self, operation: Operation) -> Route:
        match operation:
            case Command():
                return Route(operation.path, self._timed(operation, self._command(operation)), methods=["POST"])
            case Webhook():
                return Route(operation.path, self._timed(operation, self._webhook(operation)), methods=["POST"])
            case Query():
                return Route(operation.path, self._timed(operation, self._query(operation)))

    def _timed(
        self, operation: Operation, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        name = f"{'GET' if isinstance(operation, Query) else 'POST'} {operation.path}"

        async def endpoint(request: Request) -> Response:
            began, outcome = time.perf_counter(), "internal"
            try:
                response = await answer(request)
                outcome = "ok"
            except Refused as error:
                outcome = error.problem.code.wire
                raise
            except ClientDisconnect:
                outcome = "client_left"
                return Response(status_code=_GONE)  # nobody reads it
            finally:
                self._seconds.labels(name, outcome).observe(time.perf_counter() - began)
            return response

        return endpoint

    def _command(self, operation: Command) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            principal = await self._principal(request)
            key = _key_of(request)
            ids = _ids_of(request)
            _require_json(request)
            async with self._bodies.read(request, LARGEST_BODY_BYTES) as raw:
                body = parsed(operation.body, raw)
            said = [operation.path, dict(ids), body.model_dump(mode="json")]
            # A buyer and a node may bear the same id; their keys are two keys all the same.
            cause = Cause.command(
                f"{principal.role}:{principal.sub}", key, said, traceparent_of(request.headers.get("traceparent"))
            )
            return _done(await operation.handle(Asked(principal, ids, body, key, cause)))

        return answer

    def _webhook(self, operation: Webhook) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            ids = _ids_of(request)
            async with self._bodies.read(request, LARGEST_BODY_BYTES) as raw:
                delivery = Delivery(ids, request.headers, raw, traceparent_of(request.headers.get("traceparent")))
            return _done(await operation.handle(delivery))

        return answer

    def _query(self, operation: Query) -> Callable[[Request], Awaitable[Response]]:
        encode = TypeAdapter(operation.answer).dump_json

        async def answer(request: Request) -> Response:
            principal = await self._principal(request)
            found = await operation.handle(principal, _ids_of(request))
            body = b'{"state":%b,"cursor":%b}' % (encode(found.state), json.dumps(str(found.cursor)).encode())
            return Response(body, media_type="application/json", headers=_NO_STORE)

        return answer

    async def _principal(self, request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(Problem(ErrorCode.UNAUTHENTICATED))
        return await self._verifier.verify(token.strip())


def _done(done: Done) -> Response:
    return JSONResponse({"id": done.id, "cursor": str(done.cursor)}, 201, _NO_STORE)


def _key_of(request: Request) -> str:
    keys = request.headers.getlist("idempotency-key")
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise Refused(Problem(ErrorCode.INVALID_IDEMPOTENCY_KEY))
    return keys[0]


def _ids_of(request: Request) -> Mapping[str, str]:
    ids: Mapping[str, str] = request.path_params
    if not all(map(is_id, ids.values())):
        raise Refused(Problem(ErrorCode.NOT_FOUND))
    return ids


def _require_json(request: Request) -> None:
    """Only where the request names another type: a command without a body needs none."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(Problem(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send application/json, in UTF-8"))
