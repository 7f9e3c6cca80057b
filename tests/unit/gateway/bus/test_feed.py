"""How a feed gathers deliveries into batches: at once where little comes, together where much does, always bounded."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.telemetry import logger
from services.gateway.bus import feed
from services.gateway.bus.decode import Decoder
from services.gateway.core.log import Entry, Life, Log
from services.gateway.core.replica import Tally
from tests.harness.archive import EPOCH, KEYS
from tests.harness.core import order


class Batches:
    """A stream that keeps the batches it is given."""

    def __init__(self) -> None:
        self.name = "MARKET"
        self.log = Log(Life("MARKET", EPOCH), 0, 10**9)
        self.sizes: list[int] = []

    def append(self, batch: Sequence[Entry], high: int) -> None:
        self.log.extend(batch, high)
        self.sizes.append(len(batch))


class Loop:
    """A loop that is turned by hand; time passes with its pauses."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[tuple[float, Any]] = []

    def call_soon(self, call: Any) -> None:
        self.call_later(0.0, call)

    def call_later(self, seconds: float, call: Any) -> None:
        self._due.append((self.now + seconds, call))

    def turn(self) -> bool:
        """Run what is due next; whether there was anything."""
        due, self._due = self._due, []
        for at, call in due:
            self.now = max(self.now, at)
            call()
        return bool(due)


class Made:
    """A consumer whose deliveries come from the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream, self.loop, self.tally = Batches(), Loop(), Tally()
        monkeypatch.setattr("asyncio.get_running_loop", lambda: self.loop)
        monkeypatch.setattr(feed, "monotonic", lambda: self.loop.now)
        decoder = Decoder("MARKET", KEYS, self.tally, logger("test"))
        self.consumer = feed._Consumer(SimpleNamespace(), self.stream, decoder, self.tally)  # type: ignore[arg-type]
        self.count = 0

    def deliver(self, count: int, payload: bytes = b'{"type":"A"}') -> None:
        for _ in range(count):
            self.count += 1
            reply = b"$JS.ACK.MARKET.gw.1.%d.%d.1700000000000000000.0" % (self.count, self.count)
            self.consumer._deliver(order("o1").encode(), reply, b"", payload)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


def test_a_few_events_are_written_as_soon_as_the_loop_comes_round(made: Made) -> None:
    made.deliver(feed._BURST_EVENTS - 1)
    assert made.stream.sizes == []
    made.loop.turn()
    assert made.stream.sizes == [feed._BURST_EVENTS - 1]
    assert made.loop.now == 100.0
    assert not made.loop.turn()


def test_many_wait_one_turn_and_no_longer_where_nothing_follows(made: Made) -> None:
    made.deliver(64)
    made.loop.turn()
    assert made.stream.sizes == []
    made.loop.turn()
    assert made.stream.sizes == [64]
    assert made.loop.now == 100.0


def test_a_batch_waits_for_as_long_as_much_follows_but_not_for_ever(made: Made) -> None:
    while not made.stream.sizes:
        made.deliver(40)
        assert made.loop.turn()
    assert feed._BURST_SECONDS <= made.loop.now - 100.0 <= feed._BURST_SECONDS + 2 * feed._BURST_PAUSE_SECONDS
    assert made.stream.sizes == [made.count]
    made.deliver(1)
    made.loop.turn()
    assert made.stream.sizes[1:] == [1], "the next batch begins anew"


def test_a_batch_has_a_most_of_events_and_of_bytes(made: Made) -> None:
    made.deliver(feed._BATCH_EVENTS + 1)
    assert made.stream.sizes == [feed._BATCH_EVENTS]
    large = b'{"type":"A","x":"%b"}' % (b"x" * 250_000)
    made.deliver(feed._BATCH_BYTES // len(large) + 1, large)
    assert made.stream.sizes[1] < 20
    while made.loop.turn():
        pass
    assert sum(made.stream.sizes) == made.count == made.tally.feed_events


def test_what_is_no_event_is_passed_by_the_cursor_alone(made: Made) -> None:
    made.deliver(1, b"no JSON")
    made.loop.turn()
    assert made.stream.log.high == 1
    assert (made.tally.not_events, made.tally.feed_events) == (1, 0)
