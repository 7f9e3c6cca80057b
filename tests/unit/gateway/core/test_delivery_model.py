"""Whatever happens in whatever order, a channel gets each of its events once, in order, or a gap that names it."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from contracts import wire
from contracts.channels import narrowed_key
from contracts.cursor import Cursor, epoch_of
from contracts.errors import ErrorCode, Problem
from services.gateway.core.limits import Limits
from services.gateway.core.session import Session
from tests.harness.archive import BORN_MS, FakeArchive
from tests.harness.core import FakeSink, World, ops, principal
from tests.harness.promises import History, Promise

SUBJECTS = [
    "market.i1.b1.-.intent.i1",
    "market.i1.b1.n1.order.o1",
    "market.i1.b1.n1.payment.o1",
    "market.i2.b2.n1.order.o2",
    "plan.b1.p1",
    "plan.b2.p1",
]
CHANNELS = {
    "admin": ["admin:market", "buyer:b1", "order:o1", "market:intents", "admin:plans", "plan:p1"],
    "buyer": ["buyer:b1", "order:o1", "intent:i1", "plan:p1"],
}
NAMES = st.sampled_from(["MARKET", "MARKET", "MARKET", "PLANS"])
SUBJECT = st.sampled_from(SUBJECTS)
KIND = st.sampled_from(["A", "B", None])


class Delivery(RuleBasedStateMachine):
    """A session over two streams, and everything that can befall it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module in ("subscription", "fanout"):
            self.patch.setattr(f"services.gateway.core.{module}.STEP_BYTES", 150)
        self.patch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
        self.patch.setattr("services.gateway.core.replay.SHARED_PAGES_DISTANCE", 12)
        self.world = World(limits=Limits(client_rate=1e9, client_burst=10**9), log_bytes=3000)
        self.history = {name: History() for name in self.world.archives}
        self.restarts = 0
        self.ticks = 0

    @initialize(role=st.sampled_from(["admin", "buyer"]), high=st.sampled_from([200, 1000, 10**9]))
    def connect(self, role: str, high: int) -> None:
        self.role, self.high = role, high
        self.promises: dict[str, Promise] = {}
        self.sink = FakeSink(high)
        self.session = self.sink.client = Session(self.world.replica, self.sink, principal("b1", role))
        assert ops(self.sink.messages()) == ["welcome"]

    def teardown(self) -> None:
        try:
            if hasattr(self, "session"):
                self.come_to_rest()
                self.session.release()
                self.world.assert_nothing_is_left()
        finally:
            self.patch.undo()

    # What befalls it.

    @rule(subject=SUBJECT, kind=KIND, odd=st.integers(0, 5), count=st.integers(1, 5))
    def publish(self, subject: str, kind: str | None, odd: int, count: int) -> None:
        archive = self.archive_of(subject)
        for _ in range(count):
            self.ticks += 1
            stored = archive.publish(
                subject, kind=kind, is_event=odd > 0, padding=60 if odd == 1 else 0, time_ns=self.ticks
            )
            self.history[archive.name].lives[-1][stored.sequence] = stored

    @rule(name=NAMES, part=st.integers(1, 4))
    def feed(self, name: str, part: int) -> None:
        archive = self.world.archives[name]
        if archive.first - 1 > archive.stream.log.high:
            self.world.archives[name].pages.clear()
            self.restart(name, "expired", archive.epoch, archive.first - 1)
        waiting = archive.last - archive.stream.log.high
        archive.feed(archive.stream.log.high + -(-waiting // part))
        self.check()

    @rule(name=NAMES, share=st.integers(0, 10))
    def trim(self, name: str, share: int) -> None:
        archive = self.world.archives[name]
        archive.trim(archive.first + (archive.last + 1 - archive.first) * share // 10)

    @precondition(lambda self: self.restarts < 3)
    @rule(name=NAMES, share=st.integers(0, 9), recreated=st.booleans())
    def lose(self, name: str, share: int, recreated: bool) -> None:
        archive, lives = self.world.archives[name], self.history[name].lives
        if recreated:
            archive.recreate(epoch_of(BORN_MS + self.restarts + 1))
            lives.append({})
            self.restart(name, "recreated", archive.epoch, 0)
        elif (to := archive.stream.log.high * share // 10) >= archive.first - 1 and to < archive.stream.log.high:
            archive.cut_back(to)
            lives.append({sequence: one for sequence, one in lives[-1].items() if sequence <= to})
            self.restart(name, "ahead", archive.epoch, to)

    def restart(self, name: str, reason: str, epoch: str, to: int) -> None:
        self.restarts += 1
        self.world.archives[name].stream.restart(reason, epoch, to)
        self.check(restarted=name)
        current = len(self.history[name].lives) - 1
        for promise in self.promises.values():
            if promise.name == name and promise.position is not None and promise.life != current:
                assert reason == "ahead", "nobody was told of the new life"
                assert not self.history[name].due(promise, promise.life, min(to, promise.position), promise.position)
                promise.life = current

    @rule(
        data=st.data(),
        start=st.sampled_from(["now", "after", "after", "earliest", "since", "last", "old", "newer"]),
        types=st.sampled_from([None, None, ["A"], ["A", "B"]]),
        refuse=st.booleans(),
    )
    def subscribe(self, data: st.DataObject, start: str, types: list[str] | None, refuse: bool) -> None:
        free = [one for one in CHANNELS[self.role] if one not in self.promises]
        if not free or self.session.closed:
            return
        channel = data.draw(st.sampled_from(free))
        archive = self.world.plans if "plan" in channel else self.world.market
        asked = self.start(data, archive, start)
        key = channel
        if self.role == "buyer" and channel != "buyer:b1":
            key = narrowed_key(channel, "owner" if "plan" in channel else "buyer", "b1")
        self.promises[channel] = Promise(
            archive.name, channel, key, asked, archive.last, archive.stream.log.high, self.restarts, types
        )
        self.send(
            op="subscribe", id=channel, channel=channel, types=types, on_gap="refuse" if refuse else "notify", **asked
        )

    def start(self, data: st.DataObject, archive: FakeArchive, start: str) -> dict[str, Any]:
        log = archive.stream.log
        match start:
            case "after":
                return {"cursor": str(log.life.cursor(data.draw(st.integers(0, archive.last + 3))))}
            case "earliest":
                return {"cursor": "earliest"}
            case "since":
                return {"since": f"1970-01-01T00:00:00.{data.draw(st.integers(0, self.ticks + 1)):09d}Z"}
            case "last":
                return {"last": data.draw(st.integers(1, 6))}
            case "old" | "newer":
                born = BORN_MS + (-1 if start == "old" else 1000)
                return {"cursor": str(Cursor(archive.name, epoch_of(born), data.draw(st.integers(0, 9))))}
        return {}

    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        if self.promises and not self.session.closed:
            channel = data.draw(st.sampled_from(sorted(self.promises)))
            self.send(op="unsubscribe", id=7, channel=channel)
            assert channel not in self.promises

    @rule()
    def heartbeat(self) -> None:
        self.send(op="heartbeat", id=1)

    @rule(all_of_it=st.booleans())
    def turn(self, all_of_it: bool) -> None:
        if all_of_it:
            self.world.loop.run()
        else:
            self.world.loop.turn()
        self.check()

    @rule(name=NAMES, index=st.integers(0, 9), how=st.sampled_from(["read", "say", "say", "page", "page", "fail"]))
    def answer(self, name: str, index: int, how: str) -> None:
        archive = self.world.archives[name]
        if not archive.asked:
            return
        index %= len(archive.asked)
        if how == "read":
            archive.read(index)
        elif how == "fail":
            archive.answer(index, Problem(ErrorCode.REPLAY_UNAVAILABLE))
        else:
            archive.answer(index, events=2 if how == "page" else 10_000)
        self.check()

    @rule(count=st.sampled_from([50, 300, None]))
    def drain(self, count: int | None) -> None:
        self.sink.drain(count)
        self.check()

    @rule()
    def forget_pages(self) -> None:
        self.world.market.pages.clear()

    @rule(high=st.sampled_from([200, 1000, 10**9]))
    def come_back(self, high: int) -> None:
        """Another connection in its place; late answers to the old one still come."""
        self.session.release()
        self.world.assert_nothing_is_left()
        self.connect(self.role, high)

    @rule()
    def come_to_rest(self) -> None:
        """Once the client reads, the feed follows and reads are answered, every channel is live and has everything."""
        for name, archive in self.world.archives.items():
            self.feed(name, 1)
            assert archive.stream.log.high == archive.last
        for _ in range(1000):
            self.world.settle()
            self.check()
            if not self.sink.waiting and not self.world.loop.due:
                break
            self.sink.drain()
        if self.session.closed:
            return
        for promise in self.promises.values():
            assert promise.live, f"{promise} is stuck"
            assert promise.position is not None
            high = self.world.archives[promise.name].last
            if promise.position <= high:
                assert not self.history[promise.name].due(promise, promise.life, promise.position, high)
        self.sink.high = 10**9
        self.session.receive(b'{"op":"heartbeat"}')
        expected = {name: archive.stream.log.life.cursor(archive.last) for name, archive in self.world.archives.items()}
        told = self.sink.messages()[-1]["cursors"]
        assert told == {promise.name: str(expected[promise.name]) for promise in self.promises.values()}
        self.sink.high = self.high
        self.sink.drain()

    # What the client sees.

    def archive_of(self, subject: str) -> FakeArchive:
        return self.world.plans if subject.startswith("plan") else self.world.market

    def send(self, **message: Any) -> None:
        self.session.receive(wire._encode(message))
        self.check()

    def check(self, restarted: str | None = None) -> None:
        assert not self.world.faults, self.world.faults
        for message in self.sink.messages():
            self.see(message, restarted)
        for promise in self.promises.values():
            promise.fresh = False

    def see(self, message: dict[str, Any], restarted: str | None) -> None:
        op, channel = message["op"], message.get("channel")
        promise = self.promises.get(channel or "")
        if op == "heartbeat":
            return self.see_heartbeat(message["cursors"])
        if op == "close":
            assert message["code"] == 4203
            return self.promises.clear()
        assert promise is not None, f"{message} for a channel that is not subscribed"
        fresh, promise.fresh = promise.fresh, False
        if op == "unsubscribed":
            del self.promises[promise.channel]
        elif op == "error":
            self.see_error(promise, message)
        elif op == "subscribed":
            self.see_subscribed(promise, message)
        elif op == "gap":
            self.see_gap(promise, message, fresh, restarted)
        elif op == "live":
            assert not promise.live, "live is told once"
            assert message["replayed"] == promise.delivered
            promise.live = True
            self.move(promise, message["cursor"])
        else:
            assert op == "event"
            self.see_event(promise, message)
        return None

    def move(self, promise: Promise, cursor: str) -> None:
        """The client is told that it has everything up to `cursor`."""
        to = Cursor.parse(cursor)
        assert promise.position is not None
        assert to.epoch == self.world.archives[promise.name].epoch
        assert to.sequence >= promise.position, "a cursor never goes back"
        missing = self.history[promise.name].due(promise, promise.life, promise.position, to.sequence)
        assert not missing, f"{promise.channel} never got {missing}"
        promise.position = to.sequence

    def see_event(self, promise: Promise, message: dict[str, Any]) -> None:
        at = Cursor.parse(message["cursor"])
        assert promise.position is not None, "events before subscribed"
        assert at.epoch == self.world.archives[promise.name].epoch
        due = self.history[promise.name].due(promise, promise.life, promise.position, at.sequence)
        assert due == [at.sequence], f"after {promise.position} came {at.sequence}, due were {due}"
        assert message["event"]["t"] == self.history[promise.name].lives[promise.life][at.sequence].time_ns
        promise.position = at.sequence
        promise.delivered += 1

    def see_heartbeat(self, cursors: dict[str, str]) -> None:
        for promise in self.promises.values():
            if not promise.live:
                assert promise.name not in cursors
            elif promise.name in cursors:
                if Cursor.parse(cursors[promise.name]).sequence < (promise.position or 0):
                    continue  # another channel of the stream is behind; the client keeps the later one
                self.move(promise, cursors[promise.name])

    def see_error(self, promise: Promise, message: dict[str, Any]) -> None:
        if promise.position is None:
            assert message["id"] == promise.channel, "an answer repeats the id"
        code = message["error"]["code"]
        if code == "not_subscribed":  # it was withdrawn before it began; `unsubscribed` follows
            assert promise.position is None
            return
        assert code in ("replay_unavailable", "cursor_expired", "cursor_recreated", "cursor_ahead"), message
        assert ("details" in message["error"]) == (code != "replay_unavailable")
        del self.promises[promise.channel]

    def see_subscribed(self, promise: Promise, message: dict[str, Any]) -> None:
        assert promise.position is None
        assert message["id"] == promise.channel
        at = Cursor.parse(message["cursor"])
        history = self.history[promise.name]
        promise.position, promise.life, promise.fresh = at.sequence, len(history.lives) - 1, True
        if promise.restarts != self.restarts:
            return
        if not promise.asked:
            assert at.sequence == promise.high
        elif "last" in promise.asked:
            stored = history.due(promise, promise.life, 0, promise.high)
            replayed = [one for one in stored if one > at.sequence]
            first = self.world.archives[promise.name].first
            assert len(replayed) <= promise.asked["last"]
            assert len(replayed) >= min(promise.asked["last"], len([one for one in stored if one >= first]))
        elif "since" in promise.asked:
            moment = int(promise.asked["since"][-10:-1])
            wrong = [
                one
                for one in history.due(promise, promise.life, 0, at.sequence)
                if history.lives[-1][one].time_ns >= moment
            ]
            assert not [one for one in wrong if one >= self.world.archives[promise.name].first]

    def see_gap(self, promise: Promise, message: dict[str, Any], fresh: bool, restarted: str | None) -> None:
        start, to = Cursor.parse(message["from"]), Cursor.parse(message["to"])
        archive, history = self.world.archives[promise.name], self.history[promise.name]
        assert promise.position is not None
        assert to.epoch == archive.epoch
        if fresh:
            assert to.sequence == promise.position, "subscribed names the cursor after which delivery goes on"
            assert promise.asked.get("cursor", "earliest") != "earliest" or "since" in promise.asked
            if "cursor" in promise.asked:
                assert message["from"] == promise.asked["cursor"]
            if message["reason"] == "ahead" and promise.restarts == self.restarts:
                assert start.sequence > promise.last
        else:
            missing = history.due(promise, promise.life, promise.position, start.sequence)
            assert not missing, f"{promise.channel} never got {missing}, and the gap begins behind them"
        if message["reason"] == "expired":
            assert start.epoch == to.epoch
            assert start.sequence < to.sequence < archive.first
        elif message["reason"] == "recreated":
            assert start.epoch < to.epoch
        else:
            assert message["reason"] == "ahead"
            assert start.epoch == to.epoch
            assert start.sequence > to.sequence
        assert fresh or message["reason"] == "expired" or restarted == promise.name
        promise.position, promise.life = to.sequence, len(history.lives) - 1


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
