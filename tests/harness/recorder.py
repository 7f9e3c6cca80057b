"""A connection that writes down what it is told, where a test asks about positions rather than about wire formats."""

from collections.abc import Sequence
from typing import Any

from contracts.cursor import Cursor
from contracts.errors import Problem
from services.gateway.core.connection import Connection
from services.gateway.core.fanout import Part
from services.gateway.core.replay import Gap, Now, Start
from services.gateway.core.subscription import Subscription
from tests.harness.core import World, principal


class Recorder(Connection):
    """Pauses itself after `credit` writes of events, from within the write, as a transport does."""

    def __init__(self, world: World, credit: int = 10**9) -> None:
        super().__init__(world.replica.schedule.add)
        self.world = world
        self.credit = credit
        self.told: list[tuple[Any, ...]] = []

    def begin(
        self, *channels: str, start: Start | None = None, types: frozenset[str] | None = None, on_gap: str = "notify"
    ) -> Subscription:
        """Subscribe to one channel, or to several merged into one subscription, as an admin."""
        grants = tuple(self.world.grant(channel, principal()) for channel in channels)
        stream = self.world.replica.streams[grants[0].stream]
        return self.subscribe(stream, grants, start or Now(), types, on_gap)

    def give(self, credit: int) -> None:
        """The client has read: it may be written to `credit` times more."""
        self.credit = credit
        self.resume()

    @property
    def events(self) -> list[tuple[str, int]]:
        """Channel and sequence of each event, in the order written."""
        return [(channel, one) for told in self.told if told[0] == "events" for channel, one in told[1]]

    @property
    def seen(self) -> list[int]:
        """The sequence of each event, in the order written."""
        return [sequence for _, sequence in self.events]

    def all(self, what: str) -> list[tuple[Any, ...]]:
        """Everything of one kind that was told, without the kind."""
        return [told[1:] for told in self.told if told[0] == what]

    # Hooks.

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        self.told.append(("subscribed", subscription.channel, cursor.sequence))
        if gap is not None:
            self.on_gap(subscription, gap)

    def on_events(self, parts: Sequence[Part]) -> None:
        self.told.append(("events", [(part.channel, entry.sequence) for part in parts for entry in part.entries]))
        self.credit -= 1
        if self.credit <= 0:
            self.pause()

    def on_live(self, subscription: Subscription, cursor: Cursor, replayed: int) -> None:
        self.told.append(("live", subscription.channel, cursor.sequence, replayed))

    def on_gap(self, subscription: Subscription, gap: Gap) -> None:
        self.told.append(("gap", subscription.channel, gap.reason, gap.start, str(gap.to)))

    def on_failed(self, subscription: Subscription, problem: Problem) -> None:
        self.told.append(("failed", subscription.channel, problem))
