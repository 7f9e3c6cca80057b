"""The event stream: one SSE client (PROTOCOL §6).

All channels of the request are one subscription: merged in sequence order, each event once. What
is written before the response head is out is kept and goes with it; that is one step at most.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem
from contracts.principal import Principal
from services.gateway.core.access import Grant
from services.gateway.core.connection import Connection
from services.gateway.core.fanout import STEP_BYTES, Part, Types
from services.gateway.core.frames import SSE_PING, control_block, retry_block
from services.gateway.core.log import Entry
from services.gateway.core.replay import Gap, Start
from services.gateway.core.replica import Replica
from services.gateway.core.sink import Sink
from services.gateway.core.stream import Stream
from services.gateway.core.subscription import Subscription

RETRY_MS = 2000


def first_bytes(random: float) -> bytes:
    """What every stream begins with: a reconnection time, spread so that clients do not come back as one."""
    return retry_block(RETRY_MS + int(random * RETRY_MS / 2))


def parting(problem: Problem, cursor: str | None = None) -> bytes:
    """What a stream ends with where a retry is worth it: when to come back, and why; `cursor`: where to go on."""
    return retry_block(problem.retry_after_ms or RETRY_MS) + control_block("problem", cursor, problem.as_wire())


class EventStream(Connection):
    """One SSE connection."""

    # Under which it is counted.
    TRANSPORT: ClassVar[str] = "sse"

    __slots__ = (
        "_early",
        "_ends",
        "_expires_at",
        "_finals",
        "_progress_at",
        "_sink",
        "_types",
        "_unsent",
        "_withheld",
        "_wrote_at",
        "connection_id",
        "due",
        "on_placed",
        "principal",
        "replica",
    )

    def __init__(self, replica: Replica, principal: Principal) -> None:
        super().__init__(replica.schedule.add)
        self.replica = replica
        self.principal: Principal = principal
        self.connection_id = replica.new_id()
        # Wheel: when this stream wants to be woken.
        self.due: float | None = None
        # None until the response head is out; what is written before is kept here.
        self._sink: Sink | None = None
        self._early: list[bytes] | None = [self.opening()]
        # Told once with None, or with why the stream cannot begin, where the endpoint waits for it.
        self.on_placed: Callable[[Problem | None], None] | None = None
        # Channels that have not ended yet; None where they never do.
        self._ends: set[str] | None = None
        # Where channels ended before this stream began: key -> sequence of the final event.
        self._finals: Mapping[str, int] = {}
        # The type filter, where it is applied here: a final event has to be seen even if it is not sent.
        self._types: Types = None
        # Events that it kept back.
        self._withheld = 0
        self._wrote_at = replica.now()
        self._expires_at = replica.monotonic_deadline(principal)
        self._progress_at = self._wrote_at
        self._unsent = 0
        replica.connections[self] = None
        replica.tally.count(replica.tally.opened, self.TRANSPORT)

    def begin(
        self,
        stream: Stream,
        grants: tuple[Grant, ...],
        start: Start,
        types: Types,
        on_gap: str,
        *,
        finals: Mapping[str, int] | None = None,
    ) -> None:
        """Subscribe to all channels of the request; `finals`: where those that have ended did, by key."""
        if all(grant.kind.ends for grant in grants):
            self._ends = {grant.key for grant in grants}
            self._finals = finals or {}
        self.subscribe(stream, grants, start, types, on_gap)

    def attach(self, sink: Sink) -> None:
        """The response head is out: send what was kept, and go on."""
        self._sink = sink
        early, self._early = self._early or (), None
        # It may have stopped for having kept a step's bytes; from here on the sink says when to stop.
        waited, self.writable = not self.writable, True
        sink.write(b"".join(early))
        if self.closed:
            sink.close()
        self.replica.wheel.put(self, self._next_due())
        if waited and self.writable and not self.closed:
            self.resume()

    def detach(self) -> None:
        """The sink is gone: leave everything behind, the sink too, so that neither holds the other any more."""
        self.release()
        self._sink = None

    # What the connection tells (hooks).

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        """Tell the endpoint, then name the gap."""
        self._placed(None)
        if gap is not None:
            self.on_gap(subscription, gap)
        if self._ends is not None:
            self._types, subscription.types = subscription.types, None
            for grant, floor in zip(subscription.grants, subscription.floors, strict=True):
                if self._finals.get(grant.key, floor + 1) <= floor:
                    self._ends.discard(grant.key)
            self._end_if_all_ended()

    def on_events(self, parts: Sequence[Part]) -> None:
        """Write the events' blocks as one write; over several channels in sequence order, each once."""
        if len(parts) > 1:
            merged: dict[int, Entry] = {entry.sequence: entry for part in parts for entry in part.entries}
            parts = [Part("", [merged[sequence] for sequence in sorted(merged)])]
        entries, part = parts[0].entries, parts[0]
        if self._types is not None:
            part = Part("", [entry for entry in entries if entry.type in self._types])
            self._withheld += len(entries) - len(part.entries)
        if part.entries:
            self.replica.tally.deliveries += len(part.entries)
            self._write(part.blocks)
        if self._ends is not None:
            for entry in entries:
                if entry.final:
                    self._ends.difference_update(entry.keys)
            self._end_if_all_ended()

    def on_live(self, subscription: Subscription, cursor: Cursor, replayed: int) -> None:
        """Tell that the stream is live."""
        self._write(control_block("live", str(cursor), {"replayed": replayed - self._withheld}))

    def on_gap(self, subscription: Subscription, gap: Gap) -> None:
        """Name the gap; its id is where delivery goes on."""
        self.replica.tally.count(self.replica.tally.gaps, gap.reason)
        self._write(control_block("gap", str(gap.to), {"reason": gap.reason, "from": gap.start, "to": str(gap.to)}))

    def on_failed(self, subscription: Subscription, problem: Problem) -> None:
        """Tell the endpoint if the head is not out; else say when to come back, and end."""
        self.replica.tally.count(self.replica.tally.problems, problem.code.wire)
        if self._placed(problem):
            self.release()
        else:
            self._part(problem)

    def _placed(self, problem: Problem | None) -> bool:
        waiting, self.on_placed = self.on_placed, None
        if waiting is not None:
            waiting(problem)
        return waiting is not None

    def _end_if_all_ended(self) -> None:
        if self._ends is not None and not self._ends:
            self._write(control_block("end", self._cursor(), {}))
            self._finish("end")

    # What is said beside events (hooks: an A2A client is told the same in other words).

    def opening(self) -> bytes:
        """What the stream begins with."""
        return first_bytes(self.replica.random())

    @property
    def idle_seconds(self) -> float:
        """After how long a quiet stream is written to."""
        return self.replica.limits.sse_idle_seconds

    def idle(self) -> bytes:
        """What a quiet stream gets."""
        return SSE_PING + control_block("position", self._cursor(), {})

    def leaving(self, reconnect_in_ms: int) -> bytes:
        """What the stream ends with where the replica leaves."""
        told = control_block("drain", self._cursor(), {"reconnect_in_ms": reconnect_in_ms})
        return retry_block(reconnect_in_ms) + told

    def parting(self, problem: Problem, cursor: str | None) -> bytes:
        """What the stream ends with where a retry is worth it."""
        return parting(problem, cursor)

    # Time.

    def pause(self) -> None:
        """The client does not keep up: note since when."""
        super().pause()
        if self._sink is not None:
            self._progress_at, self._unsent = self.replica.now(), self._sink.unsent()
            self.replica.wheel.put(self, self._progress_at + self.replica.limits.stall_seconds)

    def resume(self) -> None:
        """The client keeps up again."""
        super().resume()
        self.replica.wheel.put(self, self._next_due())

    def tick(self, now: float) -> float | None:
        """What is due by now; when to come again."""
        limits = self.replica.limits
        if self._sink is None:
            return None
        if self.closed:
            self._sink.abort()
            return None
        if now >= self._expires_at:
            self._part(Problem(ErrorCode.TOKEN_EXPIRED), self._cursor())
        elif not self.writable:
            unsent = self._sink.unsent()
            if unsent < self._unsent:
                self._progress_at, self._unsent = now, unsent
            elif now >= self._progress_at + limits.stall_seconds:
                self._finish("too_slow")
        elif now >= self._wrote_at + self.idle_seconds:
            self._write(self.idle())
        return self._next_due()

    def _cursor(self) -> str | None:
        """Up to where everything is written; None before the start is placed."""
        for reader in self.readers.values():
            for subscription in reader.subscriptions.values():
                if subscription.position is not None:
                    return str(reader.stream.log.life.cursor(subscription.position))
            if reader.cursor is not None:
                return str(reader.cursor)
        return None

    def _next_due(self) -> float:
        limits = self.replica.limits
        if self.closed:
            return self.replica.now() + limits.close_seconds
        due = min(self._expires_at, self._wrote_at + self.idle_seconds)
        return due if self.writable else min(self._expires_at, self._progress_at + limits.stall_seconds)

    # The end.

    def drain(self, *, told: bool = False) -> None:
        """The replica is leaving: tell when to come back, and end; an EventSource cannot be told before."""
        self._write(self.leaving(self.replica.reconnect_in_ms()))
        self._finish("drain")

    def refuse(self, problem: Problem) -> None:
        """End for this reason; where the response head is not out yet, the endpoint tells it."""
        self.replica.tally.count(self.replica.tally.problems, problem.code.wire)
        if self._placed(problem):
            self.release()
        else:
            self._part(problem, self._cursor())

    def let_go(self) -> None:
        """An admin closes it."""
        self._finish("admin")

    def leave(self) -> None:
        """The client has left, or listens no more: end, with what was written."""
        self._finish("gone")

    def _part(self, problem: Problem, cursor: str | None = None) -> None:
        self._write(self.parting(problem, cursor))
        self._finish(problem.code.wire)

    def _finish(self, reason: str) -> None:
        if self.closed:
            return
        self.replica.tally.count(self.replica.tally.closed, reason)
        self.release()
        if self._sink is not None:
            self._sink.close()
            self.replica.wheel.put(self, self.replica.now() + self.replica.limits.close_seconds)

    def abandon(self) -> None:
        """Let the client go; it will resume."""
        super().abandon()
        if self._sink is not None:
            self._sink.abort()

    def release(self) -> None:
        """Leave everything behind. Idempotent."""
        super().release()
        self.replica.wheel.drop(self)
        if self in self.replica.connections:
            del self.replica.connections[self]
            self.replica.dismiss(self.principal, self)

    def _write(self, data: bytes) -> None:
        if self.closed:
            return
        self._wrote_at = self.replica.now()
        if self._sink is not None:
            self._sink.write(data)
        elif self._early is not None:
            self._early.append(data)
            if self.writable and sum(map(len, self._early)) >= STEP_BYTES:
                self.pause()
