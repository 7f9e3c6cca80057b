"""From a request to its caller and its body, and from what became of it to an HTTP response; for both bindings."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import Principal
from services.chassis.bodies import Bodies
from services.chassis.problems import implied_headers
from services.gateway.a2a.dialects import Dialect
from services.gateway.a2a.faults import Failed, Fault, Kind, failed, fault_of
from services.gateway.transports.identity import Identity, token_of

# A message becomes part of an event, so a larger one could not be stored.
LARGEST_BODY_BYTES = 256 * 1024
_MOST_BYTES = 16 * 1024 * 1024
_BODY_SECONDS = 10.0


class Requests:
    """Reads requests; holds how much of their bodies is in memory."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._bodies = Bodies(most_bytes=_MOST_BYTES, seconds=_BODY_SECONDS)

    async def caller(self, request: Request) -> tuple[Principal, str]:
        """Who asks, and the token that says so.

        Raises:
            Refused: `unauthenticated`, `token_*`, `forbidden`.
        """
        principal = await self._identity.of_request(request)
        token, _ = token_of(request)
        return principal, token or ""

    async def json(self, request: Request) -> object:
        """The body's JSON; an empty object where there is no body.

        Raises:
            Failed: it is no JSON.
            Refused: it is too large or too slow.
            ClientDisconnect: the client left.
        """
        async with self._bodies.read(request, LARGEST_BODY_BYTES) as body:
            try:
                return msgspec.json.decode(body or b"{}")
            except (msgspec.DecodeError, RecursionError) as error:
                raise failed(Kind.INVALID_JSON) from error


async def answered(
    dialect: Callable[[], Dialect], act: Callable[[], Awaitable[Response]], count: Callable[[str], None]
) -> Response:
    """What `act` answers, or its refusal in the words of `dialect`, asked then; `count` is told the refusal's code."""
    try:
        return await act()
    except Failed as error:
        fault = error.fault
    except Refused as error:
        fault = fault_of(error.problem)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    count(fault.code or fault.kind.reason.lower())
    return refusal(dialect(), fault)


def refusal(dialect: Dialect, fault: Fault) -> Response:
    """The answer that tells a fault."""
    told = fault.problem or Problem(ErrorCode.NOT_FOUND)
    return reply(dialect.error(fault), dialect.status(fault), implied_headers(told))


def reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of ready JSON."""
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, media_type="application/json")
