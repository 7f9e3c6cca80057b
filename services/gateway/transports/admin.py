"""`/v1/admin`: who is connected anywhere in the fleet, and who is to be let in no more (PROTOCOL §4, §7).

For role `admin` alone. What an admin changes is told to the log with its name.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.stdlib import BoundLogger

from contracts.channels import InvalidChannel, split
from contracts.errors import ErrorCode, Problem, Refused
from contracts.fleet import SeenConnection
from contracts.principal import ADMIN, Principal
from contracts.revocation import DEFAULT_SECONDS, InvalidRevocation, Revocation, checked
from contracts.subjects import is_id
from services.chassis.bodies import Bodies
from services.gateway.transports.identity import Identity
from services.gateway.transports.parameters import moment, number

_DEFAULT_LIMIT = 100
_MOST_CONNECTIONS = 500
_MOST_REVOCATIONS = 1000
_LARGEST_BODY = 4096
# Beyond any token's life; a revocation for ever is a shared secret or a key to change.
_LONGEST_SECONDS = 366 * 24 * 3600.0
_ID_DIGITS = 20


class ListedFleet(Protocol):
    """A page of the fleet's connections."""

    @property
    def connections(self) -> list[SeenConnection]: ...

    @property
    def more(self) -> bool: ...

    @property
    def unanswered(self) -> list[str]: ...


class FleetPort(Protocol):
    """What is asked of all replicas."""

    async def connections(self, *, sub: str | None, channel: str | None, after: str, limit: int) -> ListedFleet:
        """The open connections of all replicas, in the order in which they began."""

    async def close(self, connection_id: str, by: str) -> tuple[bool, list[str]]:
        """Close a connection, whoever has it; whether somebody had, and who did not answer."""


class RevokingPort(Protocol):
    """What writes and knows revocations."""

    async def store(self, revocation: Revocation, now: float) -> None:
        """Store one, or refuse."""

    def standing(self, after: str, limit: int) -> Sequence[Revocation]:
        """Those that stand, by name."""

    def find(self, *, sub: str | None, jti: str | None) -> Revocation | None:
        """The one that stands about this id."""


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sub: str | None = None
    jti: str | None = None
    until: float | str | None = None


class AdminEndpoints:
    """The admin's routes."""

    def __init__(
        self,
        identity: Identity,
        fleet: FleetPort,
        revoking: RevokingPort,
        *,
        bodies: Bodies,
        wall: Callable[[], float],
        log: BoundLogger,
    ) -> None:
        self._identity = identity
        self._fleet = fleet
        self._revoking = revoking
        self._bodies = bodies
        self._wall = wall
        self._log = log

    def routes(self) -> list[Route]:
        """For the application's router."""
        connections, revocations = "/v1/admin/connections", "/v1/admin/revocations"
        return [
            Route(connections, self.connections, methods=["GET"]),
            Route(connections + "/{id}", self.close, methods=["DELETE"]),
            Route(revocations, self.revocations, methods=["GET"]),
            Route(revocations, self.revoke, methods=["POST"]),
            Route(revocations, self.lift, methods=["DELETE"]),
        ]

    async def _admin(self, request: Request) -> Principal:
        principal = await self._identity.of_request(request)
        if principal.role != ADMIN:
            raise Refused(Problem(ErrorCode.FORBIDDEN, "this is for role admin"))
        return principal

    # Connections.

    async def connections(self, request: Request) -> Response:
        """One page: of everybody, of one subject id, or of who is subscribed to a channel."""
        await self._admin(request)
        query = request.query_params
        sub, channel, after = query.get("sub"), query.get("channel"), query.get("after", "")
        limit = int(number(request, "limit", _DEFAULT_LIMIT, 1, _MOST_CONNECTIONS))
        if sub is not None and not is_id(sub):
            raise _invalid("sub is an id")
        if len(after) not in (0, _ID_DIGITS):
            raise _invalid("after is the `next` of the page before")
        if channel is not None:
            _check_channel(channel)
        found = await self._fleet.connections(sub=sub, channel=channel, after=after, limit=limit)
        body: dict[str, Any] = {
            "connections": [_shown(one) for one in found.connections],
            "unanswered": found.unanswered,
        }
        if found.more and found.connections:
            body["next"] = found.connections[-1].id
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    async def close(self, request: Request) -> Response:
        """Close a connection, 4203: its client may come back; who is not to come back is revoked."""
        admin = await self._admin(request)
        closed, unanswered = await self._fleet.close(request.path_params["id"], admin.sub)
        if closed:
            return Response(status_code=204)
        details = {"unanswered": unanswered} if unanswered else {}
        raise Refused(
            Problem(ErrorCode.NOT_FOUND, "no connection has this id", retryable=bool(unanswered), details=details)
        )

    # Revocations.

    async def revoke(self, request: Request) -> Response:
        """Bar the tokens that a subject id has up to now, or one token; answered once it is stored."""
        admin = await self._admin(request)
        async with self._bodies.read(request, _LARGEST_BODY) as content:
            body = _read(content)
        now = self._wall()
        # Said again, perhaps by a clock that is behind, it takes back nothing of what stands unless it says so.
        standing = self._revoking.find(sub=body.sub, jti=body.jti)
        at = now if standing is None else max(now, standing.at)
        if body.until is not None:
            until = _moment(body.until)
        else:
            until = max(now + DEFAULT_SECONDS, now if standing is None else standing.until)
        if not now < until <= now + _LONGEST_SECONDS:
            raise _unfit("until is a moment within the next 366 days")
        revocation = _checked(Revocation(at=at, until=until, sub=body.sub, jti=body.jti, by=admin.sub))
        await self._revoking.store(revocation, now)
        self._log.info("audit", action="revoked", by=admin.sub, sub=body.sub, jti=body.jti, until=until)
        return JSONResponse(_told(revocation), 201, {"Cache-Control": "no-store"})

    async def lift(self, request: Request) -> Response:
        """Take one back."""
        admin = await self._admin(request)
        sub, jti = request.query_params.get("sub"), request.query_params.get("jti")
        standing = self._revoking.find(sub=sub, jti=jti)
        if standing is None:
            raise Refused(Problem(ErrorCode.NOT_FOUND, "no such revocation stands; give the sub or the jti of one"))
        lifted = Revocation(at=standing.at, until=standing.until, sub=sub, jti=jti, by=admin.sub, lifted=True)
        await self._revoking.store(lifted, self._wall())
        self._log.info("audit", action="revocation_lifted", by=admin.sub, sub=sub, jti=jti)
        return Response(status_code=204)

    async def revocations(self, request: Request) -> Response:
        """Those that stand, as this replica knows them."""
        await self._admin(request)
        limit = int(number(request, "limit", _DEFAULT_LIMIT, 1, _MOST_REVOCATIONS))
        found = self._revoking.standing(request.query_params.get("after", ""), limit + 1)
        body: dict[str, Any] = {"revocations": [_told(one) for one in found[:limit]]}
        if len(found) > limit:
            body["next"] = name_of(found[limit - 1])
        return JSONResponse(body, headers={"Cache-Control": "no-store"})


def name_of(revocation: Revocation) -> str:
    """What revocations are listed by: `jti:…` before `sub:…`."""
    return f"sub:{revocation.sub}" if revocation.sub else f"jti:{revocation.jti}"


def _read(content: bytes) -> _Body:
    try:
        return msgspec.json.decode(content, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unfit(str(error)[:200]) from error


def _checked(revocation: Revocation) -> Revocation:
    try:
        return checked(revocation)
    except InvalidRevocation as error:
        raise _unfit(str(error)) from error


def _moment(given: float | str) -> float:
    found = moment(given) if isinstance(given, str) else float(given)
    if found is None:
        raise _unfit("until is in Unix seconds, or like 2026-11-20T12:00:00Z")
    return found


def _told(revocation: Revocation) -> Mapping[str, object]:
    named = {"sub": revocation.sub} if revocation.sub else {"jti": revocation.jti}
    return {**named, "at": _text(revocation.at), "until": _text(revocation.until)}


def _shown(one: SeenConnection) -> Mapping[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(one)
    # Ids begin with the milliseconds at which connections did.
    shown["opened_at"] = _text((int(one.id, 16) >> 36) / 1000)
    if one.expires_at is not None:
        shown["expires_at"] = _text(one.expires_at)
    return shown


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_channel(channel: str) -> None:
    try:
        split(channel)
    except InvalidChannel as error:
        raise Refused(Problem(ErrorCode.INVALID_CHANNEL)) from error


def _invalid(why: str) -> Refused:
    return Refused(Problem(ErrorCode.INVALID_PARAMETER, why))


def _unfit(why: str) -> Refused:
    return Refused(Problem(ErrorCode.INVALID_COMMAND, why))
