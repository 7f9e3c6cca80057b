"""`POST /v1/events` (PROTOCOL §7): who may publish, in which form, and how the outcome is told.

Judges from the outside in: token, role, content type, size, JSON, contract. Nothing is read before the
token is good, and nothing is stored before all of it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE, LARGEST_EVENT_BYTES, Publication
from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import SERVICE
from contracts.registry import Registry
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.problems import problem_response
from services.ingest.domain import InvalidEvents, NotStored, Store, Stored, read_batch, read_event

_Read = Callable[[bytes, Registry], list[Publication]]


@dataclass(frozen=True, slots=True)
class _Form:
    """One accepted form of body."""

    limit: int
    read: _Read
    batch: bool


class EventRoutes:
    """The publishing endpoint over one store."""

    def __init__(
        self,
        store: Store,
        verifier: TokenVerifier,
        registry: Registry,
        *,
        bodies: Bodies,
        batch_max_bytes: int,
        refused: Counter,
        durability: Callable[[], Mapping[str, object]],
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._registry = registry
        self._bodies = bodies
        self._refused = refused
        self._durability = durability
        single = _Form(LARGEST_EVENT_BYTES, read_event, batch=False)
        # Content type -> form.
        self._forms = {
            CONTENT_TYPE: single,
            "application/json": single,
            BATCH_CONTENT_TYPE: _Form(batch_max_bytes, read_batch, batch=True),
        }

    def routes(self) -> list[Route]:
        """For the app."""
        return [Route("/v1/events", self._publish, methods=["POST"])]

    async def _publish(self, request: Request) -> Response:
        try:
            await self._authorize(request)
            form = self._form_of(request.headers.get("content-type", ""))
            async with self._bodies.read(request, form.limit) as body:
                stored = await self._store.put(form.read(body, self._registry))
        except Refused as error:
            self._refused.labels(error.problem.code.wire).inc()
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it; nothing was stored
        answers = _as_json(stored)
        # Beside the answer and not in it: a batch's answer is a bare array.
        grade = "; ".join(f"{name}={value}" for name, value in self._durability().items())
        headers = {"Cache-Control": "no-store", "Durability": grade}
        return JSONResponse(answers if form.batch else answers[0], headers=headers)

    async def _authorize(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(Problem(ErrorCode.UNAUTHENTICATED))
        principal = await self._verifier.verify(token.strip())
        if principal.role != SERVICE:
            raise Refused(
                Problem(ErrorCode.FORBIDDEN, f"only the role {SERVICE!r} may publish, not {principal.role!r}")
            )

    def _form_of(self, content_type: str) -> _Form:
        kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
        form = self._forms.get(kind)
        charsets = [text for name, _, text in (each.partition("=") for each in parameters) if name.strip() == "charset"]
        if form is None or any(text.strip(' "') not in ("utf-8", "utf8") for text in charsets):
            raise Refused(Problem(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"send {', '.join(self._forms)}, in UTF-8"))
        return form


def _as_json(stored: Sequence[Stored]) -> list[dict[str, object]]:
    return [each.as_json() for each in stored]


def _refusal(error: Refused) -> Response:
    if isinstance(error, InvalidEvents):
        errors = [{"pointer": each.pointer, "detail": each.message} for each in error.violations]
        return problem_response(error.problem, pointer=errors[0]["pointer"], errors=errors)
    if isinstance(error, NotStored) and error.stored:
        return problem_response(replace(error.problem, details={"stored": _as_json(error.stored)}))
    return problem_response(error.problem)
