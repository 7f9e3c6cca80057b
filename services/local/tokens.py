"""Tokens for a machine of one's own: HS256, signed with the data folder's secret."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jwt

from contracts.principal import ADMIN, BUYER, NODE, SERVICE

LIFETIME_SECONDS = 24 * 3600

# Role -> who holds the token that is handed out at start.
HOLDERS: Mapping[str, str] = {BUYER: "buyer_ada", NODE: "node_oslo", ADMIN: "admin", SERVICE: "demo"}


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
