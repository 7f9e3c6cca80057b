import pytest
from starlette.requests import HTTPConnection

from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import Principal
from services.gateway.transports.identity import Identity, cookie_name, is_plain_loopback, token_of
from tests.harness.core import principal

ALLOWED = "https://app.example"
NAME = "__Host-a2a_session"


class Verifier:
    """Takes every token but `bad`, and names its holder after it."""

    async def verify(self, token: str) -> Principal:
        if token == "bad":
            raise Refused(Problem(ErrorCode.TOKEN_INVALID))
        return principal(token, "buyer")


IDENTITY = Identity(Verifier(), (ALLOWED,))  # type: ignore[arg-type]  # all of a verifier that is asked for


def asked(scheme: str = "https", host: str = "edge.example", method: str = "GET", **headers: str) -> HTTPConnection:
    """A request; `_` in a header's name is `-`."""
    found = [(b"host", host.encode())] if host else []
    found += [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return HTTPConnection(
        {
            "type": "websocket" if scheme.startswith("ws") else "http",
            "method": method,
            "scheme": scheme,
            "server": ("10.0.0.1", 443),
            "path": "/v1/events",
            "root_path": "",
            "query_string": b"token=never",
            "headers": found,
        }
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (None, False)),
        ({"authorization": "Bearer t"}, ("t", False)),
        ({"authorization": "bearer  t "}, ("t", False)),
        ({"authorization": "Basic t"}, (None, False)),
        ({"authorization": "Bearer "}, (None, False)),
        ({"authorization": "Bearer t", "cookie": f"{NAME}=c"}, ("t", False)),
        ({"cookie": f"{NAME}=c"}, ("c", True)),
        ({"cookie": f"a=1; {NAME}=c; b=2"}, ("c", True)),
        ({"authorization": "Basic x", "cookie": f"{NAME}=c"}, ("c", True)),
        ({"cookie": "a2a_session=c"}, (None, False)),
        ({"cookie": f'prefs={{"a":1}}; {NAME}=c'}, ("c", True)),
        ({"cookie": f"bad name=1; @; a,b=2; {NAME}=c"}, ("c", True)),
        ({"cookie": f'{NAME}=c; other="x'}, ("c", True)),
        ({"cookie": ";;;="}, (None, False)),
    ],
)
def test_a_token_is_read_from_the_header_or_else_from_our_cookie(
    headers: dict[str, str], expected: tuple[str | None, bool]
) -> None:
    assert token_of(asked(**headers)) == expected


@pytest.mark.parametrize(
    ("scheme", "host", "plain"),
    [
        ("http", "127.0.0.1:8080", True),
        ("http", "localhost", True),
        ("ws", "localhost:8080", True),
        ("http", "[::1]:8080", True),
        ("https", "localhost", False),
        ("http", "edge.example", False),
        ("ws", "127.0.0.1.example", False),
    ],
)
def test_the_cookie_has_its_host_prefix_but_on_plain_loopback(scheme: str, host: str, plain: bool) -> None:
    request = asked(scheme, host)
    assert is_plain_loopback(request) == plain
    assert cookie_name(request) == ("a2a_session" if plain else NAME)


async def refusal(request: HTTPConnection) -> ErrorCode | None:
    try:
        await IDENTITY.of_request(request)
    except Refused as refused:
        return refused.problem.code
    return None


async def test_a_request_speaks_for_its_tokens_holder() -> None:
    assert (await IDENTITY.of_request(asked(authorization="Bearer b1"))).sub == "b1"
    assert await refusal(asked()) is ErrorCode.UNAUTHENTICATED
    assert await refusal(asked(authorization="Bearer bad")) is ErrorCode.TOKEN_INVALID


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("GET", {"sec_fetch_site": "same-origin"}, True),
        ("GET", {"sec_fetch_site": "same-site"}, False),
        ("GET", {"sec_fetch_site": "cross-site"}, False),
        ("GET", {"sec_fetch_site": "none"}, False),
        ("GET", {"origin": "https://edge.example"}, True),
        ("GET", {"origin": ALLOWED, "sec_fetch_site": "cross-site"}, True),
        ("GET", {"origin": "https://evil.example"}, False),
        ("GET", {"origin": "https://evil.example", "sec_fetch_site": "same-origin"}, False),
        ("GET", {"origin": "null"}, False),
        ("GET", {"origin": ""}, False),
        ("GET", {"origin": "http://edge.example"}, False),
        ("GET", {"origin": "https://edge.example:8443"}, False),
        ("GET", {"origin": f"{ALLOWED}.evil.example"}, False),
        ("POST", {}, False),
        ("DELETE", {}, False),
        ("POST", {"sec_fetch_site": "same-origin"}, False),
        ("POST", {"origin": ALLOWED}, True),
        ("DELETE", {"origin": "https://edge.example"}, True),
        ("DELETE", {"origin": "https://evil.example"}, False),
    ],
)
async def test_a_cookie_is_taken_only_from_pages_of_allowed_origins(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    request = asked(method=method, cookie=f"{NAME}=b1", **headers)
    assert await refusal(request) is (None if allowed else ErrorCode.FORBIDDEN)
    assert await refusal(asked(method=method, authorization="Bearer b1", **headers)) is None


@pytest.mark.parametrize(
    ("scheme", "forwarded", "origin", "own"),
    [
        ("https", None, "https://edge.example", True),
        ("wss", None, "https://edge.example", True),
        ("ws", None, "http://edge.example", True),
        ("ws", None, "https://edge.example", False),
        ("ws", "https", "https://edge.example", True),
        ("http", "https", "https://edge.example", True),
        ("http", "https", "http://edge.example", False),
        ("http", "gopher", "http://edge.example", True),
    ],
)
def test_the_gateways_own_origin_is_always_allowed(scheme: str, forwarded: str | None, origin: str, own: bool) -> None:
    more = {} if forwarded is None else {"x_forwarded_proto": forwarded}
    assert IDENTITY.origin_is_allowed(asked(scheme, origin=origin, **more)) == own


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"authorization": "Bearer t"}, "t"),
        ({"authorization": "Bearer t", "origin": ALLOWED}, "t"),
        ({"cookie": f"{NAME}=t", "origin": ALLOWED}, "t"),
        ({"origin": ALLOWED}, None),
        ({}, None),
    ],
)
def test_a_handshake_brings_its_token_or_leaves_it_to_the_first_message(
    headers: dict[str, str], token: str | None
) -> None:
    assert IDENTITY.token_of_handshake(asked("wss", **headers)) == token


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": f"{NAME}=t"},
        {"cookie": f"{NAME}=t", "origin": "https://evil.example"},
        {"authorization": "Bearer t", "origin": "https://evil.example"},
        {"origin": "https://evil.example"},
    ],
)
def test_a_websocket_with_a_cookie_needs_an_origin_and_any_origin_has_to_be_allowed(headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        IDENTITY.token_of_handshake(asked("wss", **headers))
    assert refused.value.problem.code is ErrorCode.FORBIDDEN


async def test_a_token_is_verified_wherever_it_came_from() -> None:
    assert (await IDENTITY.verify("b1")).sub == "b1"
    with pytest.raises(Refused):
        await IDENTITY.verify("bad")


def test_an_answer_may_be_read_by_allowed_origins_only() -> None:
    assert IDENTITY.cors(asked()) == []
    assert IDENTITY.cors(asked(origin="https://evil.example")) == []
    assert dict(IDENTITY.cors(asked(origin=ALLOWED))) == {
        b"access-control-allow-origin": ALLOWED.encode(),
        b"access-control-allow-credentials": b"true",
        b"vary": b"Origin",
    }


@pytest.mark.parametrize("host", ["", "[::1", "a b", "a:b:c", "[", "é"])
def test_no_host_header_breaks_the_reading_of_a_token(host: str) -> None:
    assert token_of(asked(host=host)) == (None, False)
