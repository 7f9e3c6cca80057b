"""What a token must be to have a principal, and what no forger gets through."""

import base64
import hashlib
import hmac
import json
import math
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, Refused
from contracts.principal import Principal
from services.chassis.auth import TokenVerifier
from services.chassis.keys import fitting_algorithm
from tests.unit.chassis.keys import KINDS, private_key, private_pem, public_pem, signed

SECRET = "a secret of the tests alone, of more than 32 bytes"
NOW = 1_800_000_000.0
HS = TokenVerifier(hs256_secret=SECRET, clock=lambda: NOW)
RS_PEM = public_pem(private_key("RS256"))


def claims(**differing: Any) -> dict[str, Any]:
    found = {"sub": "ada", "role": "buyer", "exp": NOW + 60, **differing}
    return {name: value for name, value in found.items() if value is not None}


def token(**differing: Any) -> str:
    return jwt.encode(claims(**differing), SECRET, "HS256")


def raw(header: object, payload: object, signature: bytes = b"") -> str:
    """A token of any header and payload, well-formed or not."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


async def refusal(verifier: TokenVerifier, text: str) -> ErrorCode:
    with pytest.raises(Refused) as refused:
        await verifier.verify(text)
    assert "\n" not in str(refused.value)
    return refused.value.problem.code


async def is_invalid(verifier: TokenVerifier, text: str) -> bool:
    return await refusal(verifier, text) is ErrorCode.TOKEN_INVALID


async def test_a_good_token_tells_who_holds_it() -> None:
    held = await HS.verify(token(channels=["order:o1", "plan:*"], jti="t1", iat=NOW - 5))
    assert held == Principal("ada", "buyer", NOW + 60, frozenset({"order:o1", "plan:*"}), "t1", NOW - 5)
    assert await HS.verify(token()) == Principal("ada", "buyer", NOW + 60)


def test_a_public_key_is_no_shared_secret() -> None:
    with pytest.raises(ValueError, match="A2A_JWT_HS256_SECRET"):
        TokenVerifier(hs256_secret=public_pem(private_key("RS256")))


async def test_a_token_that_was_verified_before_still_expires() -> None:
    now = [NOW]
    verifier = TokenVerifier(hs256_secret=SECRET, clock=lambda: now[0])
    text = token(exp=NOW + 60)
    assert await verifier.verify(text) == await verifier.verify(text)
    now[0] = NOW + 60
    assert await refusal(verifier, text) is ErrorCode.TOKEN_EXPIRED
    assert await refusal(verifier, text) is ErrorCode.TOKEN_EXPIRED


async def test_verified_tokens_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.chassis.auth._REMEMBERED_TOKENS", 2)
    verifier = TokenVerifier(hs256_secret=SECRET, clock=lambda: NOW)
    texts = [token(sub=f"buyer{n}") for n in range(4)]
    for text in (*texts, texts[2]):
        await verifier.verify(text)
    assert [held.sub for _, held in verifier._verified.values()] == ["buyer3", "buyer2"]
    await verifier.verify(token(channels=["order:o"] * 200))
    assert [held.sub for _, held in verifier._verified.values()] == ["buyer3", "buyer2"], "large ones never are"


async def test_what_issuers_write_before_their_claims_is_remembered_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.chassis.auth._REMEMBERED_HEADERS", 2)
    verifier = TokenVerifier(hs256_secret=SECRET, clock=lambda: NOW)
    for kid in ("a", "b", "c", "d" * 300):
        text = jwt.encode({"sub": "ada", "role": "buyer", "exp": NOW + 60}, SECRET, "HS256", headers={"kid": kid})
        assert (await verifier.verify(text)).sub == "ada"
        assert len(verifier._headers) <= 2


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_key_verifies_from_a_pem(kind: str) -> None:
    verifier = TokenVerifier(public_key=public_pem(private_key(kind)))
    assert (await verifier.verify(signed(kind))).sub == "ada"
    assert await is_invalid(verifier, signed(kind, 1))


async def test_a_pem_may_be_a_file_or_have_its_line_breaks_written_out(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(RS_PEM)
    for given_as in (str(path), RS_PEM.replace("\n", "\\n")):
        assert (await TokenVerifier(public_key=given_as).verify(signed("RS256"))).sub == "ada"


@pytest.mark.parametrize(
    "text",
    [
        "/no/such/file.pem",
        "\0",
        "x" * 5000,
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        private_pem(private_key("ES256")),
        public_pem(rsa.generate_private_key(65537, 1024)),
        public_pem(ec.generate_private_key(ec.SECP384R1())),
        public_pem(dsa.generate_private_key(1024)),
    ],
    ids=["no file", "no path", "too long", "garbage", "certificate", "private", "short RSA", "other curve", "DSA"],
)
def test_what_is_no_fitting_public_key_is_a_value_error_of_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="PEM") as refused:
        TokenVerifier(public_key=text)
    assert "\n" not in str(refused.value)


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a PEM nor a file that can be read"):
        TokenVerifier(public_key=str(tmp_path))


def test_a_key_fits_one_algorithm_or_none() -> None:
    assert [fitting_algorithm(private_key(kind).public_key()) for kind in KINDS] == list(KINDS)
    assert fitting_algorithm(b"secret") is None
    assert fitting_algorithm(private_key("RS256")) is None, "a private key verifies nothing here"


async def test_a_token_is_valid_until_its_last_moment_and_expired_from_then_on() -> None:
    now = [NOW]
    verifier = TokenVerifier(hs256_secret=SECRET, clock=lambda: now[0])
    text = token(exp=NOW + 1)
    now[0] = NOW + 0.999
    assert (await verifier.verify(text)).expires_at == NOW + 1
    now[0] = NOW + 1
    assert await refusal(verifier, text) is ErrorCode.TOKEN_EXPIRED


async def test_an_expired_token_of_a_forger_is_invalid_and_not_merely_expired() -> None:
    assert await is_invalid(HS, jwt.encode(claims(exp=1), SECRET[::-1], "HS256"))


@pytest.mark.parametrize("missing", ["sub", "role", "exp"])
async def test_a_required_claim_must_be_there(missing: str) -> None:
    assert await is_invalid(HS, token(**{missing: None}))


@pytest.mark.parametrize("sub", ["", "-", "-a", "a.b", "a*", ">", "a b", "ä", "x" * 65, "a\n", 7, ["ada"], {}, True])
async def test_a_sub_that_is_no_id_is_invalid(sub: object) -> None:
    assert await is_invalid(HS, raw_signed({**claims(), "sub": sub}))


@pytest.mark.parametrize("role", ["", "root", "Buyer", "buyer ", 1, True, ["admin"], {"admin": 1}])
async def test_an_unknown_role_is_invalid_of_whatever_type(role: object) -> None:
    assert await is_invalid(HS, raw_signed({**claims(), "role": role}))


async def test_a_domain_may_bring_roles_of_its_own() -> None:
    verifier = TokenVerifier(hs256_secret=SECRET, roles=frozenset({"courier"}), clock=lambda: NOW)
    assert (await verifier.verify(token(role="courier"))).role == "courier"
    assert await is_invalid(verifier, token())


@pytest.mark.parametrize("channels", ["order:o1", {"order:o1": True}, 7, True, [1], [["order:o1"]], [None]])
async def test_a_channels_claim_that_is_no_list_of_names_is_invalid(channels: object) -> None:
    assert await is_invalid(HS, token(channels=channels))


async def test_an_empty_channels_claim_allows_nothing() -> None:
    held = await HS.verify(token(channels=[]))
    assert held.channels == frozenset()
    assert not held.covers("order:o1")


NO_TIME = [True, False, "1900000000", [], {}, math.nan, math.inf, -math.inf, 10**12, 10**400, -(10**400), 1e300]


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", NO_TIME, ids=lambda value: str(value)[:12])
async def test_a_time_that_is_no_time_is_invalid(name: str, value: object) -> None:
    assert await is_invalid(HS, raw_signed({**claims(), name: value}))


@pytest.mark.parametrize("exp", [-1, 0, 0.5, -1e9, NOW])
async def test_a_time_in_the_past_is_expired_however_far(exp: float) -> None:
    assert await refusal(HS, token(exp=exp)) is ErrorCode.TOKEN_EXPIRED


async def test_a_null_time_is_as_a_missing_one() -> None:
    assert (await HS.verify(raw_signed({**claims(), "iat": None, "nbf": None}))).issued_at is None
    assert await is_invalid(HS, raw_signed({**claims(), "exp": None}))


async def test_a_token_that_begins_later_is_invalid_but_for_a_minute_of_skew() -> None:
    assert (await HS.verify(token(nbf=NOW + 59))).sub == "ada"
    assert await is_invalid(HS, token(nbf=NOW + 61))


async def test_a_token_issued_later_is_invalid_but_for_a_minute_of_skew() -> None:
    assert (await HS.verify(token(iat=NOW + 59))).issued_at == NOW + 59
    assert await is_invalid(HS, token(iat=NOW + 61))  # or no revocation of its holder would bar it until then


@pytest.mark.parametrize("jti", [7, ["t1"], True, "", "j" * 257, "\ud800"])
async def test_a_jti_that_no_revocation_could_name_is_invalid(jti: object) -> None:
    assert await is_invalid(HS, raw_signed({**claims(), "jti": jti}))


async def test_issuer_and_audience_bind_where_they_are_configured() -> None:
    bound = TokenVerifier(hs256_secret=SECRET, issuer="us", audience="edge", clock=lambda: NOW)
    assert (await bound.verify(token(iss="us", aud=["other", "edge"]))).sub == "ada"
    for wrong in ({}, {"iss": "us"}, {"aud": "edge"}, {"iss": "them", "aud": "edge"}, {"iss": "us", "aud": "edges"}):
        assert await is_invalid(bound, token(**wrong))
    assert await is_invalid(bound, raw_signed({**claims(), "iss": ["us"], "aud": "edge"}))
    assert (await HS.verify(token(iss="them", aud="anything"))).sub == "ada"


def raw_signed(payload: object, secret: bytes = SECRET.encode()) -> str:
    """Signed as HS256 whatever the payload and the secret: PyJWT would refuse to."""
    head, body, _ = raw({"alg": "HS256", "typ": "JWT"}, payload).split(".")
    signature = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


# Forgeries -----------------------------------------------------------------------------------------------------------

EVERY = TokenVerifier(hs256_secret=SECRET, public_key=RS_PEM)
ASYMMETRIC = TokenVerifier(public_key=RS_PEM)


@pytest.mark.parametrize("verifier", [EVERY, ASYMMETRIC], ids=["with secret", "without"])
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, [], ["RS256"], {}])
async def test_a_token_without_a_signature_is_refused_however_it_says_so(verifier: TokenVerifier, alg: object) -> None:
    for signature in (b"", b"x"):
        assert await is_invalid(verifier, raw({"alg": alg, "typ": "JWT"}, claims(), signature))
    assert await is_invalid(verifier, raw({"typ": "JWT"}, claims()))


@pytest.mark.parametrize("alg", ["HS384", "HS512", "RS384", "RS512", "PS256", "ES384", "ES512", "ES256K", "EdDSA"])
async def test_an_algorithm_that_no_key_here_fits_is_refused(alg: str) -> None:
    assert await is_invalid(EVERY, raw({"alg": alg}, claims(), b"x" * 64))


async def test_hs256_signed_with_the_public_key_as_secret_is_refused() -> None:
    for secret in (RS_PEM.encode(), RS_PEM.strip().encode(), b""):
        forged = raw_signed(claims(exp=time.time() + 60), secret)
        assert await is_invalid(ASYMMETRIC, forged)
        assert await is_invalid(EVERY, forged)


async def test_hs256_is_refused_without_an_explicit_secret() -> None:
    assert await is_invalid(ASYMMETRIC, token())


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
async def test_a_signature_of_another_kind_of_key_is_refused(kind: str) -> None:
    assert await is_invalid(ASYMMETRIC, signed(kind))
    renamed = raw({"alg": kind}, claims(exp=time.time() + 60), b"x" * 64)
    assert await is_invalid(ASYMMETRIC, renamed)


async def test_an_es256_token_signed_by_an_rsa_key_is_refused() -> None:
    verifier = TokenVerifier(public_key=public_pem(private_key("ES256")))
    head, body, signature = signed("RS256").split(".")
    assert head
    forged = raw({"alg": "ES256"}, {}).split(".")[0] + f".{body}.{signature}"
    assert await is_invalid(verifier, forged)


async def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    thief = private_key("RS256", 9)
    own: Any = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(thief.public_key()))
    for header in (
        {"jwk": own},
        {"jku": "http://127.0.0.1:9/jwks.json"},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5c": [public_pem(thief)]},
    ):
        assert await is_invalid(ASYMMETRIC, signed("RS256", 9, headers=header))


@pytest.mark.parametrize("kid", ["../../../dev/null", "' OR 1=1 --", "\0", "", "RS256-0", "None", "x" * 1000])
async def test_a_kid_is_never_more_than_a_name(kid: str) -> None:
    assert await is_invalid(ASYMMETRIC, signed("RS256", 9, headers={"kid": kid}))
    assert (await ASYMMETRIC.verify(signed("RS256", headers={"kid": kid}))).sub == "ada"


@pytest.mark.parametrize("kid", [1, None, [], {}, True])
async def test_a_kid_that_is_no_text_is_refused(kid: object) -> None:
    if kid is not None:
        assert await is_invalid(ASYMMETRIC, raw({"alg": "RS256", "kid": kid}, claims(), b"x" * 256))


async def test_a_critical_extension_that_is_not_known_is_refused() -> None:
    assert await is_invalid(ASYMMETRIC, signed("RS256", headers={"crit": ["unheard"], "unheard": 1}))


async def test_a_detached_payload_is_refused() -> None:
    assert await is_invalid(ASYMMETRIC, signed("RS256", headers={"b64": False, "crit": ["b64"]}))


async def test_a_changed_payload_or_signature_is_refused() -> None:
    head, body, signature = signed("RS256").split(".")
    other = raw({}, claims(role="admin", exp=time.time() + 60)).split(".")[1]
    assert await is_invalid(ASYMMETRIC, f"{head}.{other}.{signature}")
    assert await is_invalid(ASYMMETRIC, f"{head}.{body}.{signature[:-8]}")
    assert await is_invalid(ASYMMETRIC, f"{head}.{body}.")


async def test_without_any_key_every_token_is_refused() -> None:
    verifier = TokenVerifier()
    for text in (token(), signed("RS256"), raw({"alg": "none"}, claims())):
        assert await is_invalid(verifier, text)


# Garbage -------------------------------------------------------------------------------------------------------------

deep = b'{"alg":"HS256","x":' + b"[" * 2500 + b"]" * 2500 + b"}"


@given(st.text(max_size=200))
@example("")
@example("..")
@example("a.b.c")
@example("\ud800.\ud800.\ud800")
@example("ä.ö.ü")
@example("x" * 10_000)
@example("ä" * 10_000)
@example(raw(deep, {}))
@example(raw([], {}))
@example(raw(b"9" * 5000, {}))
@example(raw(b'{"alg":"HS256","x":' + b"9" * 5000 + b"}", {}))
async def test_what_is_no_token_at_all_is_invalid_and_nothing_worse(text: str) -> None:
    assert await is_invalid(EVERY, text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("sub", "role", "exp", "iat", "nbf", "jti", "channels", "aud", "iss")
HEADERS = ("alg", "kid", "typ", "crit", "b64", "jwk")


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
async def test_whatever_a_trusted_issuer_signs_ends_in_a_principal_or_a_refusal(differing: dict[str, Any]) -> None:
    text = raw_signed({**claims(), **differing})
    found: Principal | ErrorCode
    try:
        found = await HS.verify(text)
    except Refused as refused:
        found = refused.problem.code
    if isinstance(found, Principal):
        assert NOW < found.expires_at < math.inf
    else:
        assert found in (ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED)


@given(st.dictionaries(st.sampled_from(HEADERS), json_values), json_values, st.binary(max_size=64))
async def test_whatever_a_stranger_writes_into_header_and_payload_is_refused(
    header: dict[str, Any], payload: Any, signature: bytes
) -> None:
    assert await refusal(EVERY, raw(header, payload, signature)) is ErrorCode.TOKEN_INVALID


@pytest.mark.parametrize("payload", ["[]", '"text"', "7", "null", "no JSON", "[" * 2500, "[" * 2500 + "]" * 2500])
async def test_a_signed_payload_that_is_no_object_is_invalid(payload: str) -> None:
    assert await is_invalid(HS, raw_signed(payload.encode()))
