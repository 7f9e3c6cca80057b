"""The replica: what all connections of one gateway process share.

Ports and plain values only; the application puts them together. Time, randomness and waking
come in here as functions, so that the core can be tested without any of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from contracts.errors import ErrorCode, Problem
from contracts.principal import Principal
from services.gateway.core.access import Access
from services.gateway.core.connection import Connection
from services.gateway.core.headcount import Headcount, Holder
from services.gateway.core.history import HistoryReader
from services.gateway.core.limits import Limits
from services.gateway.core.parties import Parties
from services.gateway.core.presence import Presence
from services.gateway.core.signals import Signals
from services.gateway.core.stream import Stream
from services.gateway.core.wheel import Wheel

# Steps in one turn of the loop, so that a reconnect storm does not keep live events waiting.
_STEPS_A_TURN = 64
# When who was turned away for what will pass may try again.
_DRAINING_RETRY_MS = 1000
_LIMIT_RETRY_MS = 10_000
_OVERLOADED_RETRY_MS = 5000

Authenticate = Callable[[str, Callable[[Principal | Problem], None]], None]


class Schedule:
    """Connections with something to read, each given one step in turn."""

    def __init__(
        self, wake: Callable[[Callable[[], None]], None], on_fault: Callable[[Connection, Exception], None]
    ) -> None:
        """`wake` has its argument called in the next turn of the loop; `on_fault`: who raised."""
        self.wake = wake
        self.on_fault = on_fault
        # Who wants a step, in the order in which they get it.
        self._ready: OrderedDict[Connection, None] = OrderedDict()
        self._awake = False

    def add(self, connection: Connection) -> None:
        """Have `connection` stepped soon; idempotent."""
        self._ready[connection] = None
        self._wake_once()

    def _wake_once(self) -> None:
        if not self._awake:
            self._awake = True
            self.wake(self._run)

    def _run(self) -> None:
        self._awake = False
        for _ in range(min(_STEPS_A_TURN, len(self._ready))):
            connection, _ = self._ready.popitem(last=False)
            if not connection.closed and self._step(connection):
                self.add(connection)
        if self._ready:
            self._wake_once()

    def _step(self, connection: Connection) -> bool:
        try:
            return connection.step()
        except Exception as error:  # noqa: BLE001  # one connection's fault is not the others'
            connection.abandon()
            self.on_fault(connection, error)
            return False


@dataclass
class Tally:
    """Running totals for the metrics; plain integers, since the hot path adds to them."""

    deliveries: int = 0
    opened: dict[str, int] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    not_events: int = 0
    feed_events: int = 0
    feed_resets: int = 0

    @staticmethod
    def count(of: dict[str, int], label: str) -> None:
        """One more of `label`."""
        of[label] = of.get(label, 0) + 1


@dataclass
class Replica:
    """One gateway process, as its connections see it."""

    region: str
    limits: Limits
    access: Access
    streams: dict[str, Stream]
    schedule: Schedule
    wheel: Wheel
    authenticate: Authenticate
    # Monotonic seconds, and the wall clock's Unix seconds.
    now: Callable[[], float]
    wall: Callable[[], float]
    # A number in [0, 1).
    random: Callable[[], float]
    new_id: Callable[[], str]
    tally: Tally = field(default_factory=Tally)
    # What stands against a token beside its signature and its end: a revocation.
    judge: Callable[[Principal], Problem | None] = lambda _: None
    connections: dict[Connection, None] = field(default_factory=dict)
    # History requests under way.
    polls: dict[HistoryReader, None] = field(default_factory=dict)
    # Set once the replica is leaving; for a while it serves as before.
    leaving: bool = False
    # Set when it closes its connections; new ones are turned away.
    draining: bool = False
    # Set while the process holds too much memory for new connections.
    overloaded: bool = False
    # Who is where, and what they signal.
    presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        """Make what stands on the ports."""
        self.headcount = Headcount(self.limits.max_connections_per_principal, self.limits.connection_policy)
        parties = Parties(self.streams, self.now)
        signals = Signals(self.streams, self.access, parties, self.wall, self.schedule.wake)
        self.presence = Presence(
            self.new_id(),
            signals,
            self.wheel,
            now=self.now,
            wake=self.schedule.wake,
            on_fault=self.schedule.on_fault,
            lease_seconds=self.limits.presence_lease_seconds,
            grace_seconds=self.limits.presence_grace_seconds,
        )

    def drain(self) -> None:
        """The replica is leaving: nobody new, and who waits for a first event gets an answer now."""
        self.draining = True
        for reader in list(self.polls):
            reader.hurry()

    def monotonic_deadline(self, principal: Principal) -> float:
        """When `principal`'s token and its grace are over, on the monotonic clock."""
        return self.now() + principal.expires_at - self.wall() + self.limits.token_grace_seconds

    def reconnect_in_ms(self) -> int:
        """When a client of a leaving replica is to come back; spread, so that they do not come as one."""
        return int(self.limits.reconnect_spread_seconds * 1000 * self.random())

    @property
    def principals(self) -> dict[str, int]:
        """How many connections each principal's id has open here."""
        return self.headcount.numbers()

    def turns_away(self) -> Problem | None:
        """Why nobody new is taken now."""
        if self.draining:
            return Problem(ErrorCode.DRAINING, retry_after_ms=_DRAINING_RETRY_MS)
        if self.overloaded:
            return Problem(ErrorCode.OVERLOADED, retry_after_ms=_OVERLOADED_RETRY_MS)
        return None

    def admit(self, principal: Principal, holder: Holder) -> Problem | None:
        """Count one more connection of `principal`, or why not; where the newest stay, its oldest one goes for it."""
        problem = self.turns_away() or self.judge(principal)
        if problem is not None:
            return problem
        if self.headcount.is_full(principal.sub):
            return self.too_many(principal.sub)
        self.headcount.add(principal.sub, holder)
        self.trim(principal.sub, holder)
        return None

    def too_many(self, sub: str) -> Problem:
        """What a connection beyond the limit is told."""
        limit = self.limits.max_connections_per_principal
        return Problem(
            ErrorCode.TOO_MANY_CONNECTIONS, f"{limit} connections are allowed for {sub}", retry_after_ms=_LIMIT_RETRY_MS
        )

    def trim(self, sub: str, but: Holder | None = None) -> None:
        """Close what this principal's id has too many of, as far as it is this replica's to close."""
        while (holder := self.headcount.surplus(sub, but)) is not None:
            holder.refuse(self.too_many(sub))

    def dismiss(self, principal: Principal, holder: Holder) -> None:
        """One connection of `principal` fewer. Idempotent."""
        self.headcount.remove(principal.sub, holder)

    def revoke(self, subs: Iterable[str], *, every: bool) -> None:
        """Close the connections of these ids whose tokens are barred now; with `every`, of all ids."""
        holders = self.headcount if every else [holder for sub in subs for holder in self.headcount.of(sub)]
        for holder in holders:
            if holder.principal is not None and (problem := self.judge(holder.principal)) is not None:
                holder.refuse(problem)
