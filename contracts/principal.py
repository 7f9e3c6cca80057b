"""Who holds a token: subject id and role (PROTOCOL §1).

Roles are plain text, because a new domain may bring its own; these four are always known.
"""

from dataclasses import dataclass

BUYER = "buyer"
NODE = "node"
ADMIN = "admin"
SERVICE = "service"

ROLES = frozenset({BUYER, NODE, ADMIN, SERVICE})


@dataclass(frozen=True, slots=True)
class Principal:
    """One token's holder, already verified."""

    sub: str
    role: str
    # Unix seconds at which the token ends.
    expires_at: float
    # The `channels` claim: exact names or `kind:*`; None where the token does not narrow.
    channels: frozenset[str] | None = None
    jti: str | None = None
    issued_at: float | None = None

    def covers(self, channel: str) -> bool:
        """Whether the token's own `channels` claim admits this channel name."""
        if self.channels is None:
            return True
        return channel in self.channels or f"{channel.partition(':')[0]}:*" in self.channels
