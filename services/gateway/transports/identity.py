"""Identity: which principal an HTTP request speaks for, and which origins may ask (PROTOCOL §4).

A token comes as `Authorization: Bearer` or in the session cookie, never in a URL. A cookie is sent
by browsers without being asked, so with it the request's origin has to be one of ours.
"""

from starlette.requests import HTTPConnection

from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import Principal
from services.chassis.auth import TokenVerifier

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Identity:
    """Judges requests by token, cookie and origin."""

    def __init__(self, verifier: TokenVerifier, allowed_origins: tuple[str, ...]) -> None:
        self._verifier = verifier
        self._origins = frozenset(allowed_origins)

    async def of_request(self, request: HTTPConnection) -> Principal:
        """The principal of an HTTP request.

        Raises:
            Refused: `unauthenticated`, `token_*`, or `forbidden` for an origin that is not allowed.
        """
        token, from_cookie = token_of(request)
        if token is None:
            raise Refused(Problem(ErrorCode.UNAUTHENTICATED))
        if from_cookie and not self._may_use_cookie(request):
            raise Refused(Problem(ErrorCode.FORBIDDEN, "this origin may not use the gateway; see A2A_ALLOWED_ORIGINS"))
        return await self._verifier.verify(token)

    def token_of_handshake(self, connection: HTTPConnection) -> str | None:
        """The token of a WebSocket handshake, for `verify`; None where the first message has to bring it.

        Raises:
            Refused: `forbidden`: an `Origin` has to be an allowed one whatever bears the token, and a cookie needs one.
        """
        token, from_cookie = token_of(connection)
        if not self.origin_is_allowed(connection) or (from_cookie and header(connection, b"origin") is None):
            raise Refused(Problem(ErrorCode.FORBIDDEN, "this origin may not connect; see A2A_ALLOWED_ORIGINS"))
        return token

    async def verify(self, token: str) -> Principal:
        """Whose `token` this is; raises as `TokenVerifier.verify` does."""
        return await self._verifier.verify(token)

    def origin_is_allowed(self, connection: HTTPConnection) -> bool:
        """Whether the request's origin, if it tells one, is the gateway's own or an allowed one."""
        origin = header(connection, b"origin")
        return origin is None or origin in self._origins or origin == own_origin(connection)

    def _may_use_cookie(self, request: HTTPConnection) -> bool:
        if "origin" in request.headers:
            return self.origin_is_allowed(request)
        return (
            request.scope["method"] in ("GET", "HEAD")
            and request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        )

    def cors(self, request: HTTPConnection) -> list[tuple[bytes, bytes]]:
        """The response headers that let an allowed origin read the answer."""
        origin = header(request, b"origin")
        if origin is None or not self.origin_is_allowed(request):
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"Origin"),
        ]


def header(connection: HTTPConnection, name: bytes) -> str | None:
    """A request header by its lower-case name; Starlette needs three times as long to find that it is missing."""
    for found, value in connection.scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None


def token_of(connection: HTTPConnection) -> tuple[str | None, bool]:
    """The request's token, and whether a cookie brought it; the header wins."""
    scheme, _, credentials = (header(connection, b"authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip(), False
    # Starlette reads cookies as browsers do: one that another page set badly does not hide ours.
    found = connection.cookies.get(cookie_name(connection))
    return (found, True) if found is not None else (None, False)


def is_plain_loopback(connection: HTTPConnection) -> bool:
    """Whether this is a person's own machine without TLS, where a `Secure` cookie could not be used."""
    return connection.url.scheme in ("http", "ws") and connection.url.hostname in _LOOPBACK


def cookie_name(connection: HTTPConnection) -> str:
    """`__Host-` binds the cookie to this very host; browsers take that prefix with `Secure` only."""
    return "a2a_session" if is_plain_loopback(connection) else "__Host-a2a_session"


def own_origin(connection: HTTPConnection) -> str:
    """The origin at which the client found the gateway, as `https://gateway.example`."""
    scheme = {"ws": "http", "wss": "https"}.get(connection.url.scheme, connection.url.scheme)
    proto = connection.headers.get("x-forwarded-proto")
    if proto in ("http", "https"):
        scheme = proto
    return f"{scheme}://{connection.headers.get('host', '')}"
