"""The tokens that are handed out are what the services' own verifier accepts."""

import pytest

from contracts.errors import Refused
from contracts.principal import ROLES
from services.chassis.auth import TokenVerifier
from services.local.tokens import HOLDERS, LIFETIME_SECONDS, Mint, new_webhook_secret, webhook_key

SECRET = "a secret of the tests alone, of more than 32 bytes"


async def test_every_role_gets_a_token_that_verifies() -> None:
    verifier = TokenVerifier(hs256_secret=SECRET)
    tokens = Mint(SECRET).handed_out()
    assert set(tokens) == ROLES
    for role, token in tokens.items():
        principal = await verifier.verify(token)
        assert (principal.role, principal.sub) == (role, HOLDERS[role])
        assert principal.issued_at is not None
        assert principal.expires_at - principal.issued_at == LIFETIME_SECONDS


async def test_issuer_and_audience_are_those_the_services_check() -> None:
    verifier = TokenVerifier(hs256_secret=SECRET, issuer="me", audience="us")
    assert (await verifier.verify(Mint(SECRET, "me", "us").token("ada", "buyer"))).sub == "ada"
    with pytest.raises(Refused):
        await verifier.verify(Mint(SECRET).token("ada", "buyer"))


async def test_a_token_of_another_secret_does_not_verify() -> None:
    with pytest.raises(Refused):
        await TokenVerifier(hs256_secret=SECRET).verify(Mint(SECRET[::-1]).token("ada", "buyer"))


def test_a_webhook_secret_is_made_anew_and_a_given_one_may_be_any_text() -> None:
    made = new_webhook_secret()
    assert made.startswith("whsec_")
    assert made != new_webhook_secret()
    assert len(webhook_key(made)) == 32
    assert webhook_key("any whsec_ text") == b"any whsec_ text"
