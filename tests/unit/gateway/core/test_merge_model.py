"""Whatever happens, an event stream is its channels merged in order, each event once, or a gap that names it."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from contracts.cursor import Cursor, epoch_of
from services.gateway.core.eventstream import EventStream
from services.gateway.core.replay import After, Earliest, Last, Now, Start
from tests.harness.archive import BORN_MS, Stored
from tests.harness.core import FakeSink, World, principal

SUBJECTS = ["market.i.b1.n.order.o1", "market.i.b2.n.order.o2", "market.i.b1.n.payment.o1", "market.j.b3.n.order.o3"]
CHANNELS = st.lists(
    st.sampled_from(["order:o1", "order:o2", "buyer:b1", "intent:i"]), min_size=1, max_size=4, unique=True
)


class Merge(RuleBasedStateMachine):
    """One event stream over a stream that is fed, trimmed, cut back and made again."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module in ("subscription", "fanout"):
            self.patch.setattr(f"services.gateway.core.{module}.STEP_BYTES", 150)
        self.patch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
        self.patch.setattr("services.gateway.core.replay.SHARED_PAGES_DISTANCE", 10)
        self.world = World(log_bytes=3000)
        self.archive = self.world.market
        self.every: dict[int, Stored] = {}
        self.restarts = 0

    @initialize(channels=CHANNELS, before=st.lists(st.sampled_from(SUBJECTS), max_size=25), data=st.data())
    def listen(self, channels: list[str], before: list[str], data: st.DataObject) -> None:
        for subject in before:
            self.publish(subject, 1)
        self.archive.feed(data.draw(st.integers(0, 25)))
        start = data.draw(st.sampled_from(["now", "after", "earliest", "last"]))
        count, high = data.draw(st.integers(1, 4)), self.archive.stream.log.high
        self.channels, self.position = channels, high
        # Below its floor a channel is not wanted: the last few of each were asked for.
        self.floors = dict.fromkeys(channels, 0)
        begin: Start = Now()
        if start == "after":
            self.position = data.draw(st.integers(0, self.archive.last))
            begin = After(self.archive.stream.log.life.cursor(self.position))
        elif start == "earliest":
            self.position, begin = 0, Earliest()
        elif start == "last":
            self.position, begin = 0, Last(count)
            for channel in channels:
                here = [one for one, stored in self.every.items() if channel in stored.keys and one <= high]
                self.floors[channel] = here[-count] - 1 if len(here) >= count else 0
        self.live = 0
        self.sink = FakeSink(data.draw(st.sampled_from([200, 600, 10**9])))
        who = principal()
        self.stream = self.sink.client = EventStream(self.world.replica, who)
        self.world.replica.admit(who, self.stream)
        grants = tuple(self.world.grant(channel) for channel in channels)
        self.stream.begin(self.archive.stream, grants, begin, None, "notify")
        if start == "last":
            self.world.settle()  # else events that come before they are counted would be counted or not
        self.attached = False

    def teardown(self) -> None:
        try:
            if hasattr(self, "stream"):
                self.come_to_rest()
                self.stream.release()
                self.world.assert_nothing_is_left()
        finally:
            self.patch.undo()

    @rule(subject=st.sampled_from(SUBJECTS), count=st.integers(1, 4))
    def publish(self, subject: str, count: int) -> None:
        for _ in range(count):
            stored = self.archive.publish(subject, kind="A")
            self.every[stored.sequence] = stored

    @rule(part=st.integers(1, 3))
    def feed(self, part: int) -> None:
        waiting = self.archive.last - self.archive.stream.log.high
        self.archive.feed(self.archive.stream.log.high + -(-waiting // part))
        self.check()

    @rule()
    def attach(self) -> None:
        if not self.attached:
            self.attached = True
            self.stream.attach(self.sink)
            self.check()

    @rule(whole=st.booleans())
    def turn(self, whole: bool) -> None:
        if whole:
            self.world.loop.run()
        else:
            self.world.loop.turn()
        self.check()

    @rule(index=st.integers(0, 5), events=st.sampled_from([1, 3, 1000]))
    def answer(self, index: int, events: int) -> None:
        if self.archive.asked:
            self.archive.answer(index % len(self.archive.asked), events=events)
            self.check()

    @rule(count=st.sampled_from([60, 400, None]))
    def drain(self, count: int | None) -> None:
        self.sink.drain(count)
        self.check()

    @rule()
    def make_again(self) -> None:
        if self.restarts < 2:
            self.restarts += 1
            self.archive.recreate(epoch_of(BORN_MS + self.restarts))
            self.archive.stream.restart("recreated", self.archive.epoch, 0)
            self.check()
            self.every.clear()
            self.floors = dict.fromkeys(self.channels, 0)
            self.position = 0

    @rule()
    def come_to_rest(self) -> None:
        self.attach()
        self.feed(1)
        for _ in range(1000):
            self.world.settle()
            self.check()
            if not self.sink.waiting and not self.world.loop.due:
                break
            self.sink.drain()
        assert self.live == 1, "live is told once"
        assert not self.due(self.position, self.archive.last)

    def due(self, after: int, upto: int) -> list[int]:
        return [
            one
            for one, stored in self.every.items()
            if after < one <= upto and any(name in stored.keys and one > self.floors[name] for name in self.channels)
        ]

    def check(self) -> None:
        assert not self.world.faults
        for block in self.sink.blocks():
            if "retry" not in block:
                self.see(block, Cursor.parse(block["id"]))

    def see(self, block: dict[str, Any], at: Cursor) -> None:
        event = block["event"]
        self.live += event == "live"
        if at.epoch != self.archive.epoch:
            return  # kept from before the stream was made again
        if event == "gap":
            assert self.restarts
            self.position = at.sequence
            return
        due = self.due(self.position, at.sequence)
        assert due == ([at.sequence] if event == "A" else []), f"after {self.position} came {block}"
        self.position = at.sequence


TestMerge = Merge.TestCase
TestMerge.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
