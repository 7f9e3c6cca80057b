"""What gateway replicas say to each other over core NATS, in all regions; never stored, and no client hears it.

Decides the subjects and the forms; who counts and who closes is the gateway's. A replica is named by chance at its
start. Fields may be added: a fleet is of two versions while it is rolled.
"""

import msgspec

COUNTS = "gateway.fleet.counts"
"""Each replica's numbers of connections, as they change; to one replica alone under `counts_for`."""
WHOLE = "gateway.fleet.whole"
"""Asks for all numbers, of one replica or of each."""
LIST = "gateway.fleet.connections"
"""Asks every replica for its open connections."""
CLOSE = "gateway.fleet.close"
"""Asks whoever has it to close a connection."""


def counts_for(replica: str) -> str:
    """Where one replica hears what is for it alone."""
    return f"{COUNTS}.{replica}"


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many connections principals' ids have at `replica`, each with the connection that has to go first."""

    replica: str
    region: str
    # One more with each of what goes to all; who misses one asks for the whole.
    number: int
    counts: dict[str, tuple[int, str]] = {}
    # Part of a whole, and whether its first.
    whole: bool = False
    begins: bool = False
    # It is leaving: what it still has is about to come back elsewhere, and counts no more.
    leaving: bool = False
    # Its last word.
    gone: bool = False


class AskWhole(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`replica` wants to know all; `of` one, or of everybody."""

    replica: str
    of: str | None = None


class ConnectionQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which connections: of this subject id, subscribed to this channel, after this one in time."""

    asker: str
    limit: int
    sub: str | None = None
    channel: str | None = None
    after: str = ""


class SeenConnection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One open connection."""

    id: str
    transport: str
    # None before a WebSocket has shown its token.
    sub: str | None
    role: str | None
    replica: str
    region: str
    # The first of them by name, and how many there are.
    channels: list[str]
    subscriptions: int
    jti: str | None = None
    expires_at: float | None = None


class SeenPage(msgspec.Struct, frozen=True, kw_only=True):
    """One replica's answer, in the order of ids."""

    replica: str
    connections: list[SeenConnection]
    more: bool


class CloseConnection(msgspec.Struct, frozen=True, kw_only=True):
    """Close it, for `by`."""

    asker: str
    id: str
    by: str


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it was this replica's."""

    replica: str
    closed: bool
