"""The gateway's core without sockets, NATS or time: a replica whose ports are fakes that a test holds in its hands."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.errors import Problem
from contracts.principal import Principal
from contracts.subjects import MARKET, PLAN
from services.gateway.core.access import Access, Grant
from services.gateway.core.connection import Connection
from services.gateway.core.limits import Limits
from services.gateway.core.log import Entry
from services.gateway.core.replica import Replica, Schedule
from services.gateway.core.stream import Stream
from services.gateway.core.wheel import Wheel
from tests.harness.archive import EPOCH, KEYS, FakeArchive, Stored

FAR = 4_000_000_000.0


def principal(sub: str = "root", role: str = "admin", **more: Any) -> Principal:
    """A verified token's holder, whose token lasts."""
    return Principal(sub, role, more.pop("expires_at", FAR), **more)


class FakeClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return 1_900_000_000.0 + self.seconds


class FakeLoop:
    """The event loop's turns, made by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def wake(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def turn(self) -> None:
        """Call what was asked for up to now."""
        due, self.due = self.due, []
        for call in due:
            call()

    def run(self) -> None:
        """Turn until nothing is asked for."""
        for _ in range(100_000):
            if not self.due:
                return
            self.turn()
        raise AssertionError("the loop never comes to rest")


class FakeSink:
    """A transport of the core: pauses its client above `high` unsent bytes, from within `write`, as asyncio does."""

    def __init__(self, high: int = 10**9) -> None:
        self.client: Any = None
        self.high = high
        self.taken = b""
        self.writes: list[bytes] = []
        self.waiting = 0
        self.paused = False
        self.closing = False
        self.aborted = False
        # How often messages were held, less how often they were let go.
        self.held = False
        self._read = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.taken += data
        self.waiting += len(data)
        if self.waiting > self.high and not self.paused and self.client is not None:
            self.paused = True
            self.client.pause()

    def drain(self, count: int | None = None) -> None:
        """The socket takes `count` bytes, or all."""
        self.waiting = 0 if count is None else max(0, self.waiting - count)
        if self.paused and self.waiting <= self.high // 4:
            self.paused = False
            self.client.resume()

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    def hold(self) -> None:
        self.held = True

    def go_on(self) -> None:
        self.held = False

    def unsent(self) -> int:
        return self.waiting

    def messages(self) -> list[dict[str, Any]]:
        """The WebSocket messages written since the last call; pings and closes under `op` as well."""
        found, at, data = [], self._read, self.taken
        while at < len(data):
            opcode, length, at = data[at] & 0x0F, data[at + 1], at + 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                length, at = int.from_bytes(data[at : at + wide], "big"), at + wide
            body, at = data[at : at + length], at + length
            found.append(_message(opcode, body))
        self._read = at
        return found

    def blocks(self) -> list[dict[str, str]]:
        """The SSE blocks written since the last call; a comment under the empty name."""
        text, self._read = self.taken[self._read :].decode(), len(self.taken)
        assert text.endswith("\n\n") or not text
        return [dict(_field(line) for line in block.split("\n")) for block in text.split("\n\n") if block]


def _message(opcode: int, body: bytes) -> dict[str, Any]:
    if opcode == 1:
        found: dict[str, Any] = json.loads(body)
        return found
    if opcode == 8:
        return {"op": "close", "code": int.from_bytes(body[:2], "big"), "reason": body[2:].decode()}
    assert opcode in (9, 10)
    return {"op": "pong", "body": body} if opcode == 10 else {"op": "ping"}


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


@dataclass
class World:
    """A replica on fakes."""

    clock: FakeClock = field(default_factory=FakeClock)
    loop: FakeLoop = field(default_factory=FakeLoop)
    limits: Limits = field(default_factory=Limits)
    faults: list[Exception] = field(default_factory=list)
    # Tokens and what verifying them says; asked ones wait in `verifying` unless `verifies_at_once`.
    tokens: dict[str, Principal | Problem] = field(default_factory=dict)
    verifying: list[Callable[[], None]] = field(default_factory=list)
    verifies_at_once: bool = True
    log_bytes: int = 64 * 1024**2

    def __post_init__(self) -> None:
        self.archives = {name: FakeArchive(name) for name in ("MARKET", "PLANS")}
        ids = iter(range(-1, 10**6))  # the replica has the first

        def on_fault(_: Connection, error: Exception) -> None:
            self.faults.append(error)

        self.replica = Replica(
            region="test",
            limits=self.limits,
            access=Access(KEYS),
            streams={},
            schedule=Schedule(self.loop.wake, on_fault),
            wheel=Wheel(self.clock.now()),
            authenticate=self._authenticate,
            now=self.clock.now,
            wall=self.clock.wall,
            random=lambda: 0.5,
            new_id=lambda: f"c{next(ids)}",
        )
        for layout, (name, archive) in zip((MARKET, PLAN), self.archives.items(), strict=True):
            schedule = self.replica.schedule.add
            stream = Stream(name, layout.wildcard, self.log_bytes, archive, schedule, on_fault)
            archive.stream = self.replica.streams[name] = stream
            stream.open(EPOCH, 0)

    @property
    def market(self) -> FakeArchive:
        return self.archives["MARKET"]

    @property
    def plans(self) -> FakeArchive:
        return self.archives["PLANS"]

    def _authenticate(self, token: str, done: Callable[[Principal | Problem], None]) -> None:
        self.verifying.append(lambda: done(self.tokens[token]))
        if self.verifies_at_once:
            self.verify()

    def verify(self) -> None:
        """Say what the oldest token that waits is worth."""
        self.verifying.pop(0)()

    def grant(self, channel: str, who: Principal | None = None) -> Grant:
        """The grant of a channel, which is known to be allowed."""
        found = self.replica.access.grant(who or principal(), channel)
        assert isinstance(found, Grant), found
        return found

    def publish(self, *subjects: str, **more: Any) -> list[Stored]:
        """Store messages and bring them to the log."""
        found = []
        for subject in subjects:
            archive = self.plans if subject.startswith("plan.") else self.market
            found.append(archive.publish(subject, **more))
            archive.feed()
        return found

    def forget_below(self, sequence: int, name: str = "MARKET") -> None:
        """As if this replica had begun after `sequence`: its log holds what follows."""
        archive = self.archives[name]
        stream = archive.stream
        assert not stream.readers
        stream.open(archive.epoch, sequence)
        archive.feed()

    def settle(self) -> None:
        """Answer every read truthfully and run until nothing is left to do."""
        for _ in range(10_000):
            self.loop.run()
            waiting = [archive for archive in self.archives.values() if archive.asked]
            if not waiting:
                return
            for archive in waiting:
                archive.answer()
        raise AssertionError("reads are asked for without end")

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, and turn the wheel as the keeper does."""
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            self.clock.seconds = min(end, self.clock.seconds + step)
            self.replica.wheel.advance(self.clock.seconds)

    def assert_nothing_is_left(self) -> None:
        """After every connection is gone."""
        assert not self.faults, self.faults
        assert not self.replica.connections
        assert not self.replica.principals
        for stream in self.replica.streams.values():
            assert len(stream.fanout) == 0
            assert not stream.readers
            assert not stream.lagging


def order(n: str, buyer: str = "b", node: str = "n", intent: str = "i") -> str:
    """The subject of an order."""
    return f"market.{intent}.{buyer}.{node}.order.{n}"


def sequences(entries: Iterable[Entry]) -> list[int]:
    return [entry.sequence for entry in entries]


def cursor_sequence(cursor: str) -> int:
    return int(cursor.rpartition(".")[2])


def ops(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    return [message["op"] for message in messages]
