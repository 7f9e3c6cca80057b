"""The streams, as data: what every NATS site is made equal to (DESIGN decisions 6, 7, 11).

`STREAMS` hold events and have cursors; `STORES` are what services keep beside them. ROUTES can be made again from the
events, and a dead letter is a message that is still stored; PLAN_SNAPSHOTS alone outlives what it was made of.
`FLEET` is what all services read and no client does: CONTROL says whose tokens are revoked.

Says what is to exist; `services.chassis.jetstream` and `services.relay` make it so.
"""

from dataclasses import dataclass, replace

from contracts.subjects import MARKET, PLAN

EPOCH = "epoch"
"""The metadata key under which a stream bears its epoch; mirrors copy it."""

DUPLICATE_WINDOW_SECONDS = 120
MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. Ages in seconds, sizes in bytes; `None` is without limit."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int | None = None
    max_age_seconds: int | None = None
    # "new" refuses writes when full, "old" forgets the oldest.
    discard: str = "new"
    replicas: int = 1
    # Whether a replay mirror is kept beside it.
    mirrored: bool = True
    # Whether it is a key-value bucket: of each subject the last message alone is kept.
    last_only: bool = False
    # Where messages may have a time to live of their own: how long one that ran out leaves a mark, for who watches.
    mark_seconds: int | None = None

    @property
    def replay_mirror(self) -> str:
        """The mirror that wild-card replays are read from, so that they never stall a write (DESIGN decision 4)."""
        return f"{self.name}_REPLAY"


STREAMS = (
    # The source of truth: kept for ever, and a full stream refuses writes rather than forget.
    StreamSpec("MARKET", (MARKET.wildcard,), max_bytes=8 * GIB, discard="new"),
    StreamSpec("PLANS", (PLAN.wildcard,), max_bytes=1 * GIB, max_age_seconds=7 * 24 * 3600, discard="old"),
)

BUCKET_SUBJECTS = "$KV"
ROUTES = "ROUTES"
"""The bucket that knows, of each aggregate, its subject and its latest snapshot."""
PRESENCE = "PRESENCE"
"""The bucket of who is where: a lease of each gateway replica, and its members by channel (contracts.presence)."""
DEAD_LETTERS = "DEAD_LETTERS"
"""The stream of messages that a reaction gave up on; `dead.<service>.<consumer>`."""
PLAN_SNAPSHOTS = "PLAN_SNAPSHOTS"
"""The bucket of plans as they were lately, and as they ended: `<owner>.<plan>`. PLANS forgets, and this does not."""
PLAN_WORK = "PLAN_WORK"
"""The stream of turns that executors are to take, one a message to a plan."""

PRESENCE_STORE = StreamSpec(
    f"KV_{PRESENCE}",
    (f"{BUCKET_SUBJECTS}.{PRESENCE}.>",),
    max_bytes=64 * MIB,
    discard="old",
    mirrored=False,
    last_only=True,
    mark_seconds=60,
)
STORES = (
    # A cache: where it is full the oldest routes go, and are found again in the events.
    StreamSpec(
        f"KV_{ROUTES}",
        (f"{BUCKET_SUBJECTS}.{ROUTES}.>",),
        max_bytes=256 * MIB,
        discard="old",
        mirrored=False,
        last_only=True,
    ),
    # Where it is full the plans that ended longest ago go: there are 64 thousand of 8 KiB.
    StreamSpec(
        f"KV_{PLAN_SNAPSHOTS}",
        (f"{BUCKET_SUBJECTS}.{PLAN_SNAPSHOTS}.>",),
        max_bytes=512 * MIB,
        discard="old",
        mirrored=False,
        last_only=True,
    ),
    # A turn may last as long as its message is stored.
    StreamSpec(
        PLAN_WORK, ("work.plans",), max_bytes=64 * MIB, max_age_seconds=30 * 24 * 3600, discard="new", mirrored=False
    ),
    StreamSpec(
        DEAD_LETTERS, ("dead.>",), max_bytes=64 * MIB, max_age_seconds=30 * 24 * 3600, discard="old", mirrored=False
    ),
    # What gateways know of each other's clients; true for as long as the leases in it live.
    PRESENCE_STORE,
)

CANARY = "CANARY"
"""The stream of canaries: no events, but what gateways in regions time their way from the hub by."""

CANARIES = (
    StreamSpec(
        CANARY,
        ("canary.>",),
        max_bytes=1 * MIB,
        max_age_seconds=DUPLICATE_WINDOW_SECONDS,
        discard="old",
        mirrored=False,
    ),
)


def mirror_consumer(region: str) -> str:
    """The durable consumer at the hub that a region's mirror of a stream is fed through."""
    return f"mirror_{region}"


def mirror_deliver(region: str, stream: str) -> str:
    """The subject on which that consumer delivers, over the leaf's link; no stream may take it."""
    return f"mirror.{region}.{stream}"


CONTROL = "CONTROL"
"""The stream of what the whole fleet obeys; mirrored into regions, and no channel reads it."""

FLEET = (
    # A revocation is kept for as long as it holds. A full stream refuses the next rather than forget one.
    StreamSpec(
        CONTROL, ("control.>",), max_bytes=64 * MIB, discard="new", mirrored=False, last_only=True, mark_seconds=0
    ),
)


def fleet(*, replicas: int = 1) -> tuple[StreamSpec, ...]:
    """What every service of one site obeys."""
    return tuple(replace(spec, replicas=replicas) for spec in FLEET)


def stores(*, replicas: int = 1) -> tuple[StreamSpec, ...]:
    """What publishers keep beside the streams of one site."""
    return tuple(replace(spec, replicas=replicas) for spec in STORES)


def canaries(*, replicas: int = 1) -> tuple[StreamSpec, ...]:
    """What is mirrored into each region beside the events, to measure how far away it is."""
    return tuple(replace(spec, replicas=replicas) for spec in CANARIES)


def streams(
    *, market_max_bytes: int | None = None, replicas: int = 1, specs: tuple[StreamSpec, ...] = STREAMS
) -> tuple[StreamSpec, ...]:
    """The topology of one site, with the operator's sizes put in; `specs` are those of all its domains."""
    found = []
    for spec in specs:
        if spec.name == "MARKET" and market_max_bytes is not None:
            spec = replace(spec, max_bytes=market_max_bytes)
        found.append(replace(spec, replicas=replicas))
    return tuple(found)
