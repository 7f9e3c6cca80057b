import pytest

from contracts.cursor import Cursor
from contracts.errors import ErrorCode
from services.gateway.core.replay import After, Last, NeedLast, NeedTime, Since
from tests.harness.archive import EPOCH, SECOND_NS
from tests.harness.core import World, order
from tests.harness.recorder import Recorder


def at(sequence: int, epoch: str = EPOCH) -> Cursor:
    return Cursor("MARKET", epoch, sequence)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A log that drops events early, and steps of a few of them."""
    monkeypatch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
    return World(log_bytes=1)


def test_a_cursor_with_a_gap_is_refused_before_anything_is_told(world: World) -> None:
    world.publish(order("o1"))
    client = Recorder(world)
    client.begin("order:o1", start=After(at(5)), on_gap="refuse")
    world.settle()
    assert [told[0] for told in client.told] == ["failed"]
    assert client.all("failed")[0][1].code is ErrorCode.CURSOR_AHEAD
    assert not world.market.stream.readers


def test_a_cursor_beyond_what_the_feed_has_brought_waits_for_the_feed(world: World) -> None:
    world.publish(order("o1"))
    world.market.publish(order("o1"))
    world.market.publish(order("o1"))
    client = Recorder(world)
    client.begin("order:o1", start=After(at(2)))
    world.settle()
    assert client.told == [("subscribed", "order:o1", 2)]
    world.market.feed(2)
    world.settle()
    world.market.feed()
    assert client.told[1:] == [("live", "order:o1", 2, 0), ("events", [("order:o1", 3)])]
    assert not world.market.stream.lagging


def test_the_last_events_are_the_last_that_match_the_types(world: World) -> None:
    for kind in "ABABAB":
        world.publish(order("o1"), kind=kind)
    client = Recorder(world)
    client.begin("order:o1", start=Last(2), types=frozenset("A"))
    world.settle()
    assert client.seen == [3, 5]


def test_the_last_events_of_merged_channels_are_counted_for_each(world: World) -> None:
    world.publish(order("o1"), order("o2"), order("o1"), order("o2"), order("o2"))
    client = Recorder(world)
    client.begin("order:o1", "order:o2", start=Last(2))
    world.settle()
    assert client.seen == [1, 3, 4, 5]
    world.publish(order("o2"), order("o1"))
    assert client.seen == [1, 3, 4, 5, 6, 7]


def test_what_the_log_has_of_the_last_events_is_not_asked_for_again(world: World) -> None:
    world.publish(*[order("o1"), order("o2")] * 10)
    client = Recorder(world)
    client.begin("order:o1", "order:o2", start=Last(8))
    log = world.market.stream.log
    here = sum(one.subject == order("o1") for one in world.market.between(log.low, log.high))
    need = world.market.asked[0].need
    assert isinstance(need, NeedLast)
    assert (need.count, need.before) == (8 - here, log.low)
    world.settle()
    assert client.seen == list(range(5, 21))


def test_since_a_time_begins_with_the_first_event_stored_then(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    inside, below = Recorder(world), Recorder(world)
    inside.begin("order:o1", start=Since(19 * SECOND_NS))
    below.begin("order:o1", start=Since(3 * SECOND_NS))
    assert [type(one.need) for one in world.market.asked] == [NeedTime]
    world.settle()
    assert inside.seen == [19, 20]
    assert below.seen == list(range(3, 21))
