import pytest

from contracts.cursor import Cursor
from services.gateway.core.replay import (
    After,
    Bounds,
    Last,
    Since,
)
from tests.harness.archive import EPOCH
from tests.harness.core import World, order
from tests.harness.recorder import Recorder


def at(sequence: int, epoch: str = EPOCH) -> Cursor:
    return Cursor("MARKET", epoch, sequence)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A log that drops events early, and steps of a few of them."""
    monkeypatch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
    return World(log_bytes=1)


def test_a_stream_made_again_is_a_gap_and_goes_on_with_the_new_life(world: World) -> None:
    world.publish(*[order("o1")] * 3)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(1)))
    world.settle()
    later = "z" * 9
    world.market.recreate(later)
    world.market.stream.restart("recreated", later, 0)
    world.settle()
    world.publish(order("o1"))
    assert client.all("gap") == [("order:o1", "recreated", str(at(3)), str(at(0, later)))]
    assert client.seen == [2, 3, 1]
    assert len(client.all("live")) == 1
    assert client.readers["MARKET"].cursor == at(1, later)


def test_a_paused_client_gets_nothing_after_a_restart_until_it_reads(world: World) -> None:
    world.publish(*[order("o1")] * 3)
    client = Recorder(world)
    client.begin("order:o1")
    client.begin("order:o2", start=Since(1))
    client.pause()
    later = "z" * 9
    world.market.recreate(later)
    world.market.stream.restart("recreated", later, 0)
    client.begin("buyer:b")
    world.settle()
    world.publish(*[order("o1"), order("o2")] * 2)
    assert client.seen == []
    client.resume()
    world.settle()
    assert sorted(set(client.seen)) == [1, 2, 3, 4]
    assert client.readers["MARKET"].cursor == at(4, later)


def test_nothing_is_missing_where_a_cut_was_ahead_of_the_replay(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(2)))
    world.market.answer()
    world.market.cut_back(12)
    world.market.stream.restart("ahead", EPOCH, 12)
    world.settle()
    assert client.all("gap") == []
    assert client.seen == list(range(3, 13))


def test_a_live_client_ahead_of_a_cut_is_told_where_it_goes_on(world: World) -> None:
    world.publish(*[order("o1")] * 5)
    client = Recorder(world)
    client.begin("order:o1")
    world.market.cut_back(3)
    world.market.stream.restart("ahead", EPOCH, 3)
    world.settle()
    world.publish(order("o1"))
    assert client.all("gap") == [("order:o1", "ahead", str(at(5)), str(at(3)))]
    assert client.seen == [4]


def test_a_paused_client_short_of_a_cut_misses_nothing(world: World) -> None:
    world.publish(*[order("o1")] * 2)
    client = Recorder(world)
    client.begin("order:o1", "order:o2")
    client.pause()
    world.publish(*[order("o1")] * 5)
    world.market.cut_back(4)
    world.market.stream.restart("ahead", EPOCH, 4)
    client.resume()
    world.settle()
    assert client.all("gap") == []
    assert client.seen == [3, 4]


def test_after_a_cut_merged_channels_take_up_again_where_the_stream_does(world: World) -> None:
    world.publish(*[order("o1")] * 4, *[order("o2")] * 16)
    client = Recorder(world)
    client.begin("order:o1", "order:o2", start=Last(4))
    world.market.answer()
    assert client.all("subscribed") == [("order:o1", 0)]
    world.market.cut_back(10)
    world.market.stream.restart("ahead", EPOCH, 10)
    world.publish(order("o2"))
    world.settle()
    assert client.all("gap") == []
    assert client.seen[-1] == 11


def test_a_cursor_that_waits_where_the_trimmed_stream_begins_misses_nothing(world: World) -> None:
    client = Recorder(world)
    for _ in range(5):
        world.market.publish(order("o1"))
    client.begin("order:o1", start=After(at(3)), on_gap="refuse")
    client.begin("order:o2", start=After(at(4)), on_gap="refuse")
    client.begin("buyer:b", start=After(at(1)))
    world.settle()
    assert len(client.all("subscribed")) == 3
    world.market.trim(4)
    world.market.stream.restart("expired", EPOCH, 3)
    world.market.feed()
    world.settle()
    assert client.all("failed") == []
    assert client.all("gap") == [("buyer:b", "expired", str(at(1)), str(at(3)))]
    assert sorted(client.events) == [("buyer:b", 4), ("buyer:b", 5), ("order:o1", 4), ("order:o1", 5)]


def test_a_subscription_that_is_still_being_placed_is_placed_in_the_new_life(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(2)))
    later = "z" * 9
    world.market.recreate(later)
    world.market.stream.restart("recreated", later, 0)
    world.market.answer(answer=Bounds(EPOCH, 1, 20))
    assert client.told == [], "the answer about the earlier life came late"
    world.settle()
    assert client.all("gap") == [("order:o1", "recreated", str(at(2)), str(at(0, later)))]


def test_whoever_refuses_gaps_is_let_go_by_a_restart_and_the_others_stay(world: World) -> None:
    world.publish(order("o1"))
    client = Recorder(world)
    client.begin("order:o1", on_gap="refuse")
    client.begin("order:o2")
    world.market.stream.restart("recreated", "z" * 9, 0)
    world.settle()
    assert [channel for channel, _ in client.all("failed")] == ["order:o1"]
    assert client.find("order:o2") is not None
    assert client.find("order:o1") is None


def test_a_connection_that_is_gone_hears_nothing_of_a_restart(world: World) -> None:
    class Leaves(Recorder):
        def on_gap(self, *_: object) -> None:
            self.release()

    client = Leaves(world)
    client.begin("order:o1")
    client.begin("order:o2")
    world.market.stream.restart("recreated", "z" * 9, 0)
    world.assert_nothing_is_left()
