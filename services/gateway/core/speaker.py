"""The speaker: what a WebSocket connection tells its client, in whole frames (PROTOCOL §5); it decides nothing."""

from collections.abc import Sequence
from typing import ClassVar

from contracts import wire
from contracts.cursor import Cursor
from contracts.errors import Problem
from services.gateway.core.connection import Connection
from services.gateway.core.fanout import Part
from services.gateway.core.frames import text_frame
from services.gateway.core.replay import Gap
from services.gateway.core.replica import Replica
from services.gateway.core.sink import Sink
from services.gateway.core.subscription import Subscription


class Speaker(Connection):
    """The half of a session that writes."""

    TRANSPORT: ClassVar[str] = "websocket"
    __slots__ = ("_sink", "replica")

    def __init__(self, replica: Replica, sink: Sink) -> None:
        super().__init__(replica.schedule.add)
        self.replica = replica
        self._sink = sink

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        """Answer the subscribe, then name the gap."""
        self._send(wire.subscribed(subscription.message_id, subscription.channel, cursor))  # type: ignore[arg-type]
        if gap is not None:
            self.on_gap(subscription, gap)

    def on_events(self, parts: Sequence[Part]) -> None:
        """Write the events' frames as one write."""
        tally = self.replica.tally
        if len(parts) == 1:
            tally.deliveries += len(parts[0].entries)
            self._sink.write(parts[0].frames)
        else:
            tally.deliveries += sum(len(part.entries) for part in parts)
            self._sink.write(b"".join([part.frames for part in parts]))

    def on_live(self, subscription: Subscription, cursor: Cursor, replayed: int) -> None:
        """Tell that the channel is live."""
        self._send(wire.live(subscription.channel, cursor, replayed))

    def on_gap(self, subscription: Subscription, gap: Gap) -> None:
        """Name the gap."""
        self.replica.tally.count(self.replica.tally.gaps, gap.reason)
        self._send(wire.gap(subscription.channel, gap.reason, gap.start, gap.to))

    def on_failed(self, subscription: Subscription, problem: Problem) -> None:
        """Answer a subscribe that could not begin, or tell that a replay cannot go on."""
        message_id = subscription.message_id if subscription.start is not None else None
        self._error(problem, message_id, subscription.channel)  # type: ignore[arg-type]

    def tell(self, frame: bytes) -> bool:
        """Write a frame of presence or of a signal."""
        if not self.closed:
            self._sink.write(frame)
        return True

    def _send(self, message: bytes) -> None:
        if not self.closed:
            self._sink.write(text_frame(message))

    def _error(self, problem: Problem, message_id: wire.MessageId = None, channel: str | None = None) -> None:
        self.replica.tally.count(self.replica.tally.problems, problem.code.wire)
        self._send(wire.error(problem, message_id, channel))

    def _cursors(self) -> dict[str, str]:
        return {name: str(cursor) for name, reader in self.readers.items() if (cursor := reader.cursor) is not None}
