"""Keys fetched from an issuer over HTTP: when it is asked, and what happens while it is away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import ErrorCode, Refused
from services.chassis.auth import TokenVerifier
from services.chassis.keys import KeysUnavailable, _usable_keys
from tests.harness.waiting import until
from tests.unit.chassis.keys import KINDS, Issuer, issuing, jwk, private_key, public_pem, signed


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as found:
        found.entries = [jwk(kind) for kind in KINDS]
        yield found


@pytest.fixture
def verifier(issuer: Issuer, ticks: Ticks) -> TokenVerifier:
    return TokenVerifier(jwks_url=issuer.url, ticks=ticks)


async def is_invalid(verifier: TokenVerifier, token: str) -> bool:
    with pytest.raises(Refused) as refused:
        await verifier.verify(token)
    return refused.value.problem.code is ErrorCode.TOKEN_INVALID


async def test_each_kind_of_key_verifies_and_the_issuer_is_asked_once(verifier: TokenVerifier, issuer: Issuer) -> None:
    for kind in KINDS:
        assert (await verifier.verify(signed(kind))).sub == "ada"
    assert issuer.asked == 1


async def test_a_token_without_a_kid_is_verified_where_just_one_key_fits(
    verifier: TokenVerifier, issuer: Issuer, ticks: Ticks
) -> None:
    token = jwt.encode({"sub": "ada", "role": "buyer", "exp": 4_000_000_000}, private_key("ES256"), "ES256")
    assert "kid" not in jwt.get_unverified_header(token)
    assert (await verifier.verify(token)).sub == "ada"
    issuer.entries.append(jwk("ES256", 1))
    ticks.now += 301
    assert await is_invalid(verifier, token)


async def test_a_token_verified_before_is_refused_once_its_key_is_gone(
    verifier: TokenVerifier, issuer: Issuer, ticks: Ticks
) -> None:
    text = signed("ES256")
    await verifier.verify(text)
    issuer.entries = [jwk("RS256")]
    ticks.now += 301
    assert await is_invalid(verifier, text)


async def test_waiting_clients_share_one_fetch(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.answering.clear()
    waiting = [asyncio.create_task(verifier.verify(signed(kind))) for kind in KINDS for _ in range(20)]
    await until(lambda: issuer.asked == 1)
    issuer.answering.set()
    assert {held.sub for held in await asyncio.gather(*waiting)} == {"ada"}
    assert issuer.asked == 1


async def test_a_client_that_hangs_up_does_not_end_the_fetch_for_the_others(
    verifier: TokenVerifier, issuer: Issuer
) -> None:
    issuer.answering.clear()
    first, second = (asyncio.create_task(verifier.verify(signed("RS256"))) for _ in range(2))
    await until(lambda: issuer.asked == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    issuer.answering.set()
    assert (await second).sub == "ada"
    assert issuer.asked == 1


async def test_a_new_key_is_found_by_asking_again(verifier: TokenVerifier, issuer: Issuer, ticks: Ticks) -> None:
    await verifier.verify(signed("RS256"))
    issuer.entries.append(jwk("RS256", 1))
    ticks.now += 6
    assert (await verifier.verify(signed("RS256", 1))).sub == "ada"
    assert issuer.asked == 2


async def test_unknown_kids_do_not_make_a_storm_at_the_issuer(
    verifier: TokenVerifier, issuer: Issuer, ticks: Ticks
) -> None:
    await verifier.verify(signed("RS256"))
    for second in range(20):
        ticks.now += 1
        for number in range(5):
            assert await is_invalid(verifier, signed("RS256", headers={"kid": f"made-up-{second}-{number}"}))
    assert issuer.asked <= 1 + 20 / 5


async def test_a_key_that_was_withdrawn_serves_no_longer_than_the_cache(
    verifier: TokenVerifier, issuer: Issuer, ticks: Ticks
) -> None:
    token = signed("RS256")
    await verifier.verify(token)
    issuer.entries = [jwk("RS256", 1)]
    ticks.now += 299
    assert (await verifier.verify(token)).sub == "ada"
    ticks.now += 2
    assert await is_invalid(verifier, token)
    assert (await verifier.verify(signed("RS256", 1))).sub == "ada"


async def test_a_rotation_leaves_no_moment_without_a_key(verifier: TokenVerifier, issuer: Issuer, ticks: Ticks) -> None:
    for number in range(1, 5):
        issuer.entries = [jwk("RS256", number - 1), jwk("RS256", number)]
        ticks.now += 6
        for present in (number - 1, number):
            assert (await verifier.verify(signed("RS256", present))).sub == "ada"


async def test_an_issuer_that_was_never_reached_is_told_as_such_and_a_retry_may_help(ticks: Ticks) -> None:
    async with issuing() as issuer:
        away = issuer.url
    verifier = TokenVerifier(jwks_url=away, ticks=ticks)
    for _ in range(3):
        with pytest.raises(KeysUnavailable) as refused:
            await verifier.verify(signed("RS256"))
        assert refused.value.problem.may_retry
        assert refused.value.problem.retry_after_ms
    assert await is_invalid(verifier, "garbage"), "what no key could save is not put off"


async def test_while_the_issuer_is_away_known_keys_serve_for_an_hour(
    verifier: TokenVerifier, issuer: Issuer, ticks: Ticks
) -> None:
    token = signed("RS256")
    await verifier.verify(token)
    issuer.status = 503
    ticks.now += 3500
    for _ in range(3):
        assert (await verifier.verify(token)).sub == "ada"
    assert issuer.asked == 2, "asked again, and then not for every token"
    with pytest.raises(KeysUnavailable):
        await verifier.verify(signed("RS256", 1))
    ticks.now += 101
    with pytest.raises(KeysUnavailable):
        await verifier.verify(token)
    issuer.status = 200
    ticks.now += 6
    assert (await verifier.verify(token)).sub == "ada"


async def test_a_new_kid_while_the_issuer_is_away_is_not_refused_for_good(
    verifier: TokenVerifier, issuer: Issuer, ticks: Ticks
) -> None:
    await verifier.verify(signed("RS256"))
    issuer.status = 500
    ticks.now += 10
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            await verifier.verify(signed("RS256", 1))
    issuer.status = 200
    issuer.entries = [jwk("RS256", 1)]
    ticks.now += 6
    assert (await verifier.verify(signed("RS256", 1))).sub == "ada"


@pytest.mark.parametrize(
    "document",
    [b"", b"not JSON", b"[]", b"{}", b'{"keys": 7}', b'{"keys": {}}', b"\xff", b"[" * 100_000, b'"' + b"x" * 300_000],
    ids=["empty", "text", "list", "no keys", "number", "object", "no UTF-8", "deep", "large"],
)
async def test_what_is_no_jwks_is_as_an_issuer_that_is_away(
    verifier: TokenVerifier, issuer: Issuer, document: bytes
) -> None:
    issuer.raw = document
    with pytest.raises(KeysUnavailable):
        await verifier.verify(signed("RS256"))


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500])
async def test_redirects_are_not_followed_and_errors_are_no_keys(
    verifier: TokenVerifier, issuer: Issuer, status: int
) -> None:
    issuer.status = status
    with pytest.raises(KeysUnavailable):
        await verifier.verify(signed("RS256"))
    assert issuer.asked == 1


async def test_an_issuer_that_does_not_answer_is_waited_for_only_so_long(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.keys._JWKS_TIMEOUT_SECONDS", 0.05)
    issuer.answering.clear()
    with pytest.raises(KeysUnavailable):
        await verifier.verify(signed("RS256"))


def secret_entry() -> dict[str, Any]:
    return {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "RS256-0", "alg": "HS256"}


@pytest.mark.parametrize(
    "entry",
    [
        secret_entry(),
        jwk("RS256", use="enc"),
        jwk("RS256", key_ops=["encrypt"]),
        jwk("RS256", key_ops=7),
        jwk("RS256", alg="RS512"),
        jwk("RS256", kid=7),
        jwk("RS256", kid=["RS256-0"]),
        jwk("RS256", n=7),
        jwk("RS256", n="!!"),
        jwk("RS256", e="AQ"),
        {"kty": "RSA"},
        {"kty": "unheard of"},
        {},
        7,
        None,
        [],
    ],
    ids=lambda entry: str(entry)[-30:],
)
async def test_an_entry_that_is_no_fitting_key_is_passed_over_and_the_others_serve(
    verifier: TokenVerifier, issuer: Issuer, entry: Any
) -> None:
    issuer.entries = [entry, jwk("ES256")]
    assert (await verifier.verify(signed("ES256"))).sub == "ada"
    assert await is_invalid(verifier, signed("RS256"))


async def test_a_secret_in_the_jwks_never_makes_hs256_acceptable(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.entries = [secret_entry()]
    secret = "secret-secret-secret-secret-secret"
    forged = jwt.encode({"sub": "ada", "role": "admin", "exp": 4_000_000_000}, secret, "HS256", {"kid": "RS256-0"})
    assert await is_invalid(verifier, forged)
    assert issuer.asked == 0, "a forgery of a kind that is never taken does not reach the issuer"


async def test_a_key_of_the_jwks_serves_only_its_own_algorithm(verifier: TokenVerifier) -> None:
    _, body, signature = signed("RS256").split(".")
    assert await is_invalid(verifier, ".".join((signed("ES256").split(".")[0], body, signature)))
    assert await is_invalid(verifier, signed("ES256", headers={"kid": "RS256-0"}))


async def test_a_pem_and_a_jwks_serve_side_by_side(issuer: Issuer, ticks: Ticks) -> None:
    verifier = TokenVerifier(jwks_url=issuer.url, public_key=public_pem(private_key("EdDSA", 5)), ticks=ticks)
    assert (await verifier.verify(signed("EdDSA", 5))).sub == "ada"
    assert issuer.asked == 0
    assert (await verifier.verify(signed("RS256"))).sub == "ada"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("kty", "crv", "n", "e", "x", "y", "d", "p", "q", "k", "kid", "alg", "use", "key_ops", "oth")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(KINDS), st.dictionaries(st.sampled_from(MEMBERS), json_values | st.sampled_from(["AQAB", "RSA"]))
)
def test_whatever_stands_in_an_entry_nothing_but_a_public_key_comes_of_it(kind: str, members: dict[str, Any]) -> None:
    for (kid, algorithm), _ in _usable_keys({"keys": [{**jwk(kind), **members}]}).items():
        assert kid is None or isinstance(kid, str)
        assert algorithm in KINDS
