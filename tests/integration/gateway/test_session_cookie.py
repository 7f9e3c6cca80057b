"""The session cookie and the origins that may use it (PROTOCOL §4)."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.harness.gateway import Gateway, running_gateway
from tests.harness.raw import connected, handshake
from tests.harness.tokens import bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRIEND = "https://app.example"
FOE = "https://evil.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(nats_server: str) -> AsyncIterator[Gateway]:
    """With one allowed origin."""
    async with running_gateway(nats_server, allowed_origins=(FRIEND,)) as found:
        yield found


def cookie_of(answer: httpx.Response) -> Any:
    ((name, found),) = SimpleCookie(answer.headers["set-cookie"]).items()
    return name, found


async def test_a_session_puts_the_token_into_a_cookie_that_scripts_cannot_read(gateway: Gateway) -> None:
    async with gateway.http as client:
        answer = await client.post("/v1/session", headers=bearer("b1", "buyer"))
        assert answer.status_code == 200
        assert (answer.json()["sub"], answer.json()["role"]) == ("b1", "buyer")
        assert answer.headers["cache-control"] == "no-store"
        name, found = cookie_of(answer)
        assert name == "a2a_session"
        assert (found["httponly"], found["samesite"], found["path"], found["secure"]) == (True, "strict", "/", "")
        assert 3500 < int(found["max-age"]) <= 3600
        assert "domain" not in answer.headers["set-cookie"].lower()
    async with gateway.http as client:
        answer = await client.post("/v1/session", headers={**bearer("b1", "buyer"), "Host": "gw.example"})
        name, found = cookie_of(answer)
        assert (name, found["secure"]) == ("__Host-a2a_session", True)


async def test_a_session_ends_by_delete(gateway: Gateway) -> None:
    async with gateway.http as client:
        answer = await client.delete("/v1/session", headers={"Origin": gateway.url})
        assert answer.status_code == 204
        name, found = cookie_of(answer)
        assert (name, found.value, found["max-age"]) == ("a2a_session", "", "0")


async def test_a_session_is_opened_by_a_good_bearer_token_only(gateway: Gateway) -> None:
    async with gateway.http as client:
        cookie = {"Cookie": f"a2a_session={token('b1', 'buyer')}"}
        for headers, status, code in (
            ({}, 401, "unauthenticated"),
            ({**cookie, "Origin": gateway.url}, 401, "unauthenticated"),
            (bearer("b1", "buyer", -5), 401, "token_expired"),
            ({"Authorization": "Bearer x"}, 401, "token_invalid"),
            ({"Authorization": "Basic eDp5"}, 401, "unauthenticated"),
            ({**bearer("b1", "buyer"), "Origin": FOE}, 403, "forbidden"),
            ({**bearer("b1", "buyer"), **cookie}, 403, "forbidden"),
        ):
            answer = await client.post("/v1/session", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), headers
            assert "set-cookie" not in answer.headers
        for headers in ({"Origin": FOE}, cookie, {**cookie, "Origin": FOE}, {"Origin": "null"}):
            assert (await client.delete("/v1/session", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "own"}, 200),
        ({"Origin": FRIEND}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": FOE}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
    ],
)
async def test_a_get_with_the_cookie_needs_an_allowed_page(
    gateway: Gateway, headers: dict[str, str], status: int
) -> None:
    if headers.get("Origin") == "own":
        headers = {"Origin": gateway.url}
    others = 'theme="a b"; prefs={"x":1,"y":[2]}; a,b=c; '
    async with gateway.http as client:
        for cookies in ("", others):
            sent = {**headers, "Cookie": f"{cookies}a2a_session={token('b1', 'buyer')}"}
            answer = await client.get("/v1/channels/buyer:b1/events", headers=sent)
            assert answer.status_code == status, cookies
            async with client.stream("GET", "/v1/events?channel=buyer:b1", headers=sent) as stream:
                assert stream.status_code == status


@pytest.mark.parametrize(
    ("origin", "cookie", "status"),
    [
        (None, False, b"101"),
        (None, True, b"403"),
        ("own", True, b"101"),
        (FRIEND, True, b"101"),
        (FRIEND, False, b"101"),
        (FOE, True, b"403"),
        (FOE, False, b"403"),
    ],
)
async def test_a_websocket_with_the_cookie_needs_an_allowed_origin(
    gateway: Gateway, origin: str | None, cookie: bool, status: bytes
) -> None:
    headers = {"Host": gateway.url.removeprefix("http://")}
    if origin is not None:
        headers["Origin"] = gateway.url if origin == "own" else origin
    if cookie:
        headers["Cookie"] = f"a2a_session={token('b1', 'buyer')}"
    async with connected(gateway.url) as raw:
        await raw.send(handshake(**headers))
        assert (await raw.read_until(b"\r\n\r\n")).split(b" ")[1] == status
        if status == b"101" and cookie:
            assert (await raw.read_message())["principal"] == {"sub": "b1", "role": "buyer"}


async def test_another_site_reads_answers_only_if_it_is_allowed(gateway: Gateway) -> None:
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization, last-event-id"}
    async with gateway.http as client:
        answer = await client.options("/v1/events", headers={"Origin": FRIEND, **asked})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == FRIEND
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert "authorization" in allowed
        assert "last-event-id" in allowed
        assert (await client.options("/v1/events", headers={"Origin": FOE, **asked})).headers.get(
            "access-control-allow-origin"
        ) is None
        for path in ("/v1/events?channel=buyer:b1", "/v1/events?channel=buyer:b2", "/v1/channels/buyer:b1/events"):
            for origin in (FRIEND, FOE):
                sent = {**bearer("b1", "buyer"), "Origin": origin}
                async with client.stream("GET", path, headers=sent) as found:
                    expected = FRIEND if origin == FRIEND else None
                    assert found.headers.get("access-control-allow-origin") == expected, path
