"""Tokens for a machine of one's own: HS256, signed with the data folder's secret; and the payment provider's secret."""

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import jwt

from contracts.principal import ADMIN, BUYER, NODE, SERVICE

LIFETIME_SECONDS = 24 * 3600

# Role -> who holds the token that is handed out at start.
HOLDERS: Mapping[str, str] = {BUYER: "buyer_ada", NODE: "node_oslo", ADMIN: "admin", SERVICE: "demo"}


def new_webhook_secret() -> str:
    """A secret for a payment provider to sign with, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def webhook_key(secret: str) -> bytes:
    """The key that such a secret stands for; of one without its prefix it is its own bytes."""
    prefix, found, encoded = secret.partition("whsec_")
    return base64.b64decode(encoded) if found and not prefix else secret.encode()


@dataclass(frozen=True, slots=True)
class Mint:
    """Signs tokens that this machine's services accept."""

    secret: str
    issuer: str | None = None
    audience: str | None = None

    def token(self, sub: str, role: str) -> str:
        """A token for `sub` in `role`, good for a day."""
        now = int(time.time())
        claims: dict[str, object] = {"sub": sub, "role": role, "iat": now, "exp": now + LIFETIME_SECONDS}
        if self.issuer is not None:
            claims["iss"] = self.issuer
        if self.audience is not None:
            claims["aud"] = self.audience
        return jwt.encode(claims, self.secret, "HS256")

    def handed_out(self) -> dict[str, str]:
        """One token for each role, by role."""
        return {role: self.token(sub, role) for role, sub in HOLDERS.items()}
