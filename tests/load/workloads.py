"""The workloads, as data: what is run, what is shown of it, and what the gateway is to reach. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a workload is run (`scenarios.py`)."""

    SATURATED = "saturated"
    PACED = "paced"
    EACH = "each"
    IDLE = "idle"
    STORM = "storm"
    DEEP = "deep"
    REPLAY = "replay"
    STALL = "stall"
    COMMANDS = "commands"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one metric: absolute, or as a multiple of a peer's in the same round."""

    metric: str
    relation: str
    bound: float
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload."""

    name: str
    # With `{n}` for the number of connections, `{behind}` for the events that a storm's clients have missed.
    title: str
    kind: Kind
    # What is shown; peers are compared by the first.
    metrics: tuple[str, ...]
    transport: str = "ws"
    peers: tuple[str, ...] = ("ours", "nats", "nchan", "hand")
    targets: tuple[Target, ...] = ()
    # Events a second of an open loop.
    rate: float = 0
    # How many connections, where the workload says so itself.
    connections: int | None = None
    # Whether each connection is another principal's, with a token of its own.
    own_tokens: bool = False
    # Whether connections subscribe to a channel each, or only open (an idle WebSocket of ours).
    subscribes: bool = True
    # Whether the stream is long before it begins.
    is_long: bool = False


_FULL = ("deliveries_per_s", "cpu_s_per_million", "p50_ms", "p99_ms", "client_us")
_PACED = ("cpu_s_per_million", "p50_ms", "p99_ms", "client_us")
_IDLE = ("kib_per_connection", "connects_per_s", "live_per_s", "connect_cpu_us")
_STORM = ("caught_up_s", "core_s", "deliveries_per_s")
_NO_NATS = ("ours", "nchan", "hand")
_REPLAYING = ("ours", "nchan")


def _times(metric: str, relation: str, **peers: float) -> tuple[Target, ...]:
    return tuple(Target(metric, relation, bound, peer) for peer, bound in peers.items())


_COMMANDS = ("commands_per_s", "p50_ms", "p99_ms", "command_us", "restart_s")
_LIKE_A_MARKET = (
    Target("commands_per_s", ">=", 500), Target("p50_ms", "<=", 3), Target("restart_s", "<=", 2),
)  # fmt: skip
_LIKE_NCHAN = (*_times("cpu_s_per_million", "<=", nchan=1.3), *_times("p99_ms", "<=", nchan=2))

_ALL = (
    Workload(
        "W0", "one WebSocket at 200 events/s", Kind.PACED, ("p50_ms", "p99_ms"), rate=200, connections=1,
        peers=("ours", "nats"),
    ),
    Workload(
        "W1", "broadcast to {n} WebSockets on one channel, saturated", Kind.SATURATED, _FULL,
        targets=_times("deliveries_per_s", ">=", nats=2.5, nchan=10, hand=50),
    ),
    Workload(
        "W1L", "broadcast to {n} WebSockets at 50 events/s", Kind.PACED, _PACED, rate=50, targets=_LIKE_NCHAN
    ),
    Workload(
        "W2", "{n} WebSockets, a channel each, saturated", Kind.EACH, _FULL,
        targets=_times("deliveries_per_s", ">=", nchan=1.5, hand=5),
    ),
    Workload(
        "W3", "broadcast to {n} SSE streams on one channel, saturated", Kind.SATURATED, _FULL, "sse", _NO_NATS,
        targets=_times("deliveries_per_s", ">=", nchan=30),
    ),
    Workload(
        "W3L", "broadcast to {n} SSE streams at 50 events/s", Kind.PACED, _PACED, "sse", _NO_NATS, rate=50,
        targets=_LIKE_NCHAN,
    ),
    Workload(
        "W4", "{n} idle WebSockets, each with a token of its own", Kind.IDLE, _IDLE, own_tokens=True,
        targets=(Target("kib_per_connection", "<=", 4), Target("connects_per_s", ">=", 4000)),
    ),
    Workload(
        "W4-one", "{n} idle WebSockets of one principal, with one token", Kind.IDLE, _IDLE, peers=("ours",),
        targets=(Target("kib_per_connection", "<=", 4),),
    ),
    Workload(
        "W4S", "{n} idle SSE streams, each with a token of its own", Kind.IDLE, _IDLE, "sse", _NO_NATS, own_tokens=True,
        targets=(Target("kib_per_connection", "<=", 4),),
    ),
    Workload(
        "W5", "{n} clients come back at once, each {behind} events behind, served from memory", Kind.STORM, _STORM,
        peers=_REPLAYING, targets=_times("caught_up_s", "<=", nchan=0.2),
    ),
    Workload(
        "W5-deep", "the same with a log that begins after those events: served from JetStream", Kind.DEEP, _STORM,
        peers=_REPLAYING, targets=_times("caught_up_s", "<=", nchan=1),
    ),
    Workload(
        "REPLAY", "publishing while {n} buyers replay from far back", Kind.REPLAY,
        ("publish_p99_ms", "publish_p50_ms", "refused", "caught_up_s", "published"), peers=("ours",),
        targets=(Target("publish_p99_ms", "<=", 50), Target("refused", "<=", 0)),
    ),
    Workload(
        "STALL", "{n} WebSockets at 2000 events/s, one in ten stops reading", Kind.STALL,
        ("p99_ms", "p50_ms", "kib_per_stalled", "closed_share"), peers=("ours",), rate=2000,
        targets=(
            Target("p99_ms", "<=", 10), Target("kib_per_stalled", "<=", 256), Target("closed_share", ">=", 1),
        ),
    ),
    Workload(
        "COMMANDS", "commands to a publisher over HTTP, one in two begins an aggregate", Kind.COMMANDS, _COMMANDS,
        peers=("ours",), targets=_LIKE_A_MARKET,
    ),
    Workload(
        "COMMANDS-1M", "the same with a million events of others in the stream", Kind.COMMANDS, _COMMANDS,
        peers=("ours",), targets=_LIKE_A_MARKET, is_long=True,
    ),
)  # fmt: skip
WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in _ALL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large and how long."""

    connections: int = 1000
    idle: int = 10_000
    storm: int = 2000
    behind: int = 500
    replay_events: int = 300_000
    replay_buyers: int = 500
    replaying: int = 50
    stall: int = 200
    long_stream: int = 1_000_000
    seconds: float = 4
    stall_seconds: float = 3

    def stored(self, workload: Workload) -> int:
        """How many events are in the stream before it begins."""
        return self.long_stream if workload.is_long else 0

    def of(self, workload: Workload) -> int:
        """How many connections a workload has."""
        by_kind = {
            Kind.IDLE: self.idle,
            Kind.STORM: self.storm,
            Kind.DEEP: self.storm,
            Kind.REPLAY: self.replaying,
            Kind.STALL: self.stall,
            Kind.COMMANDS: 0,
        }
        return workload.connections or by_kind.get(workload.kind, self.connections)


QUICK = Sizes(
    connections=100, idle=500, storm=100, behind=200, replay_events=20_000, replaying=10, stall=50, seconds=1,
    stall_seconds=2, long_stream=20_000,
)  # fmt: skip
