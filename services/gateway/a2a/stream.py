"""A plan as one A2A client follows it: the task first, then each update, until a terminal state.

An event stream like those of `/v1/events`: a cursor over the log, its bytes written to the transport, no task
and no timer of its own. Only what is written differs, and that is said by the request's dialect.
"""

from collections.abc import Sequence
from typing import ClassVar

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem
from contracts.principal import Principal
from services.gateway.a2a.dialects import Dialect
from services.gateway.a2a.faults import fault_of
from services.gateway.a2a.updates import TERMINAL, Body, Update, gap_update, state_of, update_of
from services.gateway.core.access import Grant
from services.gateway.core.eventstream import EventStream
from services.gateway.core.fanout import Part
from services.gateway.core.replay import After, Gap
from services.gateway.core.replica import Replica
from services.gateway.core.stream import Stream
from services.gateway.core.subscription import Subscription

# Without a blank line of its own: to some clients that would be an empty message.
_IDLE = b": hb\n"


class TaskStream(EventStream):
    """One subscriber of one plan."""

    TRANSPORT: ClassVar[str] = "a2a"

    __slots__ = ("_context", "_dialect", "_plan", "_state")

    def __init__(self, replica: Replica, principal: Principal, dialect: Dialect) -> None:
        self._dialect = dialect
        # The plan's id and its context's; the state that its client knows it in.
        self._plan = ""
        self._context = ""
        self._state = ""
        super().__init__(replica, principal)

    def follow(self, stream: Stream, grant: Grant, task: Body, cursor: Cursor, gap: Gap | None) -> None:
        """Tell the task as it was at `cursor`, the gap before it if there is one, and from there on what happens."""
        self._plan, self._context = str(task["id"]), str(task.get("contextId", ""))
        self._tell(Update("task", task, state_of(task)), cursor)
        if gap is not None:
            self._name(gap, cursor)
        if self._state in TERMINAL:
            self._finish("end")
        else:
            self.subscribe(stream, (grant,), After(cursor), None, "notify")

    # What the connection tells (hooks).

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        """The task has been told; a gap that opened behind it ends the stream."""
        if gap is not None:
            self.on_gap(subscription, gap)

    def on_events(self, parts: Sequence[Part]) -> None:
        """Write what an A2A client can be shown of them, as one write."""
        told, ended, blocks = 0, False, []
        for entry in parts[0].entries:
            update = update_of(entry, self._plan, self._state)
            if update is not None:
                self._state = update.state
                blocks.append(self._block(update, entry.life.cursor(entry.sequence)))
                told += 1
            ended = entry.final or self._state in TERMINAL
            if ended:
                break
        self.replica.tally.deliveries += told
        if blocks:
            self._write(b"".join(blocks))
        if ended:
            self._finish("end")

    def on_live(self, subscription: Subscription, cursor: Cursor, replayed: int) -> None:
        """A2A has no word for it."""

    def on_gap(self, subscription: Subscription, gap: Gap) -> None:
        """Name it and end: what is missing may be the plan's end, and who subscribes again is told the task anew."""
        self._name(gap, gap.to)
        self._part(Problem(ErrorCode.REPLAY_UNAVAILABLE, "events are missing; subscribe again"))

    def _name(self, gap: Gap, at: Cursor) -> None:
        self.replica.tally.count(self.replica.tally.gaps, gap.reason)
        self._tell(gap_update(self._plan, self._context, self._state, gap, at), at)

    def _tell(self, update: Update, cursor: Cursor) -> None:
        self._state = update.state
        self._write(self._block(update, cursor))

    def _block(self, update: Update, cursor: Cursor) -> bytes:
        return b"id: %b\ndata: %b\n\n" % (str(cursor).encode(), self._dialect.update(update.kind, update.body))

    # What is said beside events.

    def opening(self) -> bytes:
        """Nothing: some A2A clients take a reconnection time for a message."""
        return b""

    @property
    def idle_seconds(self) -> float:
        """Well below the 5 s of the SDK's client."""
        return self.replica.limits.task_idle_seconds

    def idle(self) -> bytes:
        """A comment; the cursor of a quiet plan is that of its last update."""
        return _IDLE

    def leaving(self, reconnect_in_ms: int) -> bytes:
        """That it ends before the task does, and that a retry helps."""
        return self.parting(Problem(ErrorCode.DRAINING, retry_after_ms=reconnect_in_ms), None)

    def parting(self, problem: Problem, cursor: str | None) -> bytes:
        """Why the stream ends before the task does."""
        return self._dialect.error_block(fault_of(problem))
