import pytest

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem
from services.gateway.core.connection import Connection
from services.gateway.core.log import Page
from services.gateway.core.replay import (
    After,
    Bounds,
    Earliest,
    Last,
    NeedBounds,
    NeedPage,
    Now,
    Placed,
    Since,
)
from tests.harness.archive import EPOCH
from tests.harness.core import World, order, principal
from tests.harness.people import Person
from tests.harness.recorder import Recorder


def at(sequence: int, epoch: str = EPOCH) -> Cursor:
    return Cursor("MARKET", epoch, sequence)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A log that drops events early, and steps of a few of them."""
    monkeypatch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
    return World(log_bytes=1)


def test_from_now_on_is_live_at_once_and_gets_what_is_published_next(world: World) -> None:
    world.publish(order("o1"))
    client = Recorder(world)
    client.begin("order:o1")
    world.publish(order("o1"), order("o2"), order("o1"))
    assert client.told[:2] == [("subscribed", "order:o1", 1), ("live", "order:o1", 1, 0)]
    assert client.seen == [2, 4]


def test_a_cursor_within_the_log_is_replayed_from_memory_and_then_live(world: World) -> None:
    world.publish(*[order("o1")] * 6)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(4)))
    world.loop.run()
    world.publish(order("o1"))
    assert client.told == [
        ("subscribed", "order:o1", 4),
        ("events", [("order:o1", 5), ("order:o1", 6)]),
        ("live", "order:o1", 6, 2),
        ("events", [("order:o1", 7)]),
    ]
    assert world.market.asked == []


def test_what_the_log_no_longer_holds_is_read_from_the_archive_and_joined_with_it(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(2)))
    assert world.market.stream.log.low > 2
    world.settle()
    assert client.seen == list(range(3, 21))
    assert client.all("live") == [("order:o1", 20, 18)]


def test_a_page_in_memory_is_read_without_asking(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    first, second = Recorder(world), Recorder(world)
    first.begin("order:o1", start=After(at(0)))
    world.settle()
    second.begin("order:o1", start=After(at(0)))
    asked = [type(one.need) for one in world.market.asked]
    world.settle()
    assert asked == [NeedBounds]
    assert second.seen == first.seen


def test_far_behind_the_log_only_the_channels_own_events_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.core.replay.SHARED_PAGES_DISTANCE", 6)
    world.publish(*[order("o1"), order("o2")] * 15)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(1)))
    world.market.answer()
    low = world.market.stream.log.low
    filters = ("market.*.*.*.order.o1", "market.*.*.*.payment.o1")
    assert world.market.asked[0].need == NeedPage(1, low - 3, filters)
    world.settle()
    assert client.seen == list(range(3, 30, 2))


def test_the_whole_stream_is_never_read_by_filter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.core.replay.SHARED_PAGES_DISTANCE", 6)
    world.publish(*[order("o1")] * 30)
    client = Recorder(world)
    client.begin("admin:market", start=After(at(1)))
    world.market.answer()
    assert world.market.asked[0].need == NeedPage(1, world.market.stream.log.low, None)


def test_a_page_that_begins_later_than_asked_names_what_was_trimmed_meanwhile(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(2)))
    world.market.answer()
    world.market.trim(9)
    world.settle()
    assert client.all("gap") == [("order:o1", "expired", str(at(2)), str(at(8)))]
    assert client.seen == list(range(9, 21))


def test_a_subscription_that_refuses_gaps_ends_when_one_opens_under_it(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(2)), on_gap="refuse")
    world.market.answer()
    world.market.trim(9)
    world.settle()
    [(_, problem)] = client.all("failed")
    assert problem.code is ErrorCode.CURSOR_EXPIRED
    assert problem.details == {"from": str(at(2)), "to": str(at(8))}
    assert client.subscription_count == 0


@pytest.mark.parametrize("start", [After(at(0)), Earliest(), Since(0), Last(100)])
def test_a_problem_of_the_archive_ends_the_subscription(world: World, start: After) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=start)
    problem = Problem(ErrorCode.REPLAY_UNAVAILABLE)
    world.market.answer(answer=problem)
    assert client.told == [("failed", "order:o1", problem)]
    assert not world.market.stream.readers


def test_a_problem_in_the_middle_of_a_replay_ends_it(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(0)))
    world.market.answer()
    problem = Problem(ErrorCode.REPLAY_UNAVAILABLE)
    world.market.answer(answer=problem)
    assert client.told[-1] == ("failed", "order:o1", problem)


@pytest.mark.parametrize(("start", "answer"), [(After(at(0)), Page(0)), (Since(1), Page(0))])
def test_an_answer_of_another_kind_is_a_problem_worth_a_retry(world: World, start: After, answer: Page) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=start)
    world.market.answer(answer=answer)
    assert client.all("failed")[0][1].may_retry


def test_bounds_in_place_of_a_page_are_a_problem_worth_a_retry(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(0)))
    world.market.answer()
    world.market.answer(answer=Bounds(EPOCH, 1, 20))
    assert client.all("failed")[0][1].may_retry


def test_an_answer_that_comes_after_the_unsubscribe_is_ignored(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.drop(client.begin("order:o1", start=After(at(0))))
    again = client.begin("order:o1", start=Now())
    world.market.answer()
    assert client.all("live") == [("order:o1", 20, 0)]
    client.drop(again)
    client.drop(client.begin("order:o1", start=Since(1)))
    world.market.answer(answer=Placed(3))
    assert client.subscription_count == 0


def test_a_page_that_comes_after_the_unsubscribe_is_ignored(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    subscription = client.begin("order:o1", start=After(at(0)))
    world.market.answer()
    client.drop(subscription)
    world.market.answer()
    assert client.seen == []


def test_a_page_that_comes_while_the_client_does_not_read_is_read_again_later(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(0)))
    world.market.answer()
    client.pause()
    world.settle()
    assert client.seen == []
    client.resume()
    world.settle()
    assert client.seen == list(range(1, 21))


def test_a_client_that_does_not_read_costs_a_position_and_goes_on_from_there(world: World) -> None:
    client = Recorder(world, credit=1)
    client.begin("order:o1")
    client.begin("order:o2")
    world.publish(order("o1"))
    assert not client.writable
    world.publish(order("o1"), order("o2"), order("o1"))
    assert client.seen == [1]
    assert client.readers["MARKET"].cursor == at(1)
    client.give(100)
    world.loop.run()
    assert sorted(client.events) == [("order:o1", 1), ("order:o1", 2), ("order:o1", 4), ("order:o2", 3)]
    assert client.readers["MARKET"].cursor == at(4)
    assert client.all("live") == [("order:o1", 0, 0), ("order:o2", 0, 0)]


def test_a_client_further_behind_than_the_log_reads_each_channel_from_the_archive(world: World) -> None:
    client = Recorder(world)
    client.begin("order:o1")
    client.begin("order:o2")
    client.pause()
    world.publish(*[order("o1"), order("o2")] * 20)
    assert world.market.stream.log.low > 0
    client.resume()
    world.loop.run()
    assert client.readers["MARKET"].cursor is None, "the heartbeat says nothing while a channel is not live"
    world.settle()
    assert [sequence for channel, sequence in client.events if channel == "order:o1"] == list(range(1, 40, 2))
    assert [sequence for channel, sequence in client.events if channel == "order:o2"] == list(range(2, 41, 2))
    assert len(client.all("live")) == 2, "live is told once"


def test_a_replay_goes_on_after_a_pause_during_which_the_log_moved_past_it(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    client = Recorder(world)
    client.begin("order:o1", start=After(at(0)))
    world.market.answer()
    client.pause()
    world.market.answer()
    world.publish(*[order("o1")] * 40)
    client.resume()
    world.settle()
    assert client.seen == list(range(1, 61))


def test_a_pause_while_joining_keeps_the_next_event_for_later(world: World) -> None:
    client = Recorder(world, credit=2)
    client.begin("order:o1")
    client.pause()
    client.begin("order:o2")
    world.publish(order("o2"))
    assert client.all("live") == [("order:o1", 0, 0)]
    client.resume()
    world.loop.run()
    assert client.seen == [1]
    assert client.all("live")[1] == ("order:o2", 1, 1)


def test_the_first_subscription_of_a_paused_connection_waits_too(world: World) -> None:
    client = Recorder(world)
    client.pause()
    client.begin("order:o1")
    world.publish(order("o1"))
    assert client.told == [("subscribed", "order:o1", 0)]
    client.resume()
    world.loop.run()
    assert client.seen == [1]


def test_a_long_replay_does_not_keep_the_connections_other_channels_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.core.subscription.STEP_BYTES", 1)
    world = World()
    world.publish(*[order("o1"), order("o2"), "plan.b.p"] * 10)
    client = Recorder(world)
    for channel in ("order:o1", "order:o2", "plan:p"):
        client.begin(channel, start=Earliest())
    world.settle()
    first_steps = {channel for channel, _ in client.events[:8]}
    assert first_steps == {"order:o1", "order:o2", "plan:p"}


def test_a_released_connection_leaves_nothing_behind(world: World) -> None:
    world.publish(*[order("o1")] * 20)
    world.market.publish(order("o1"))
    client = Recorder(world)
    client.begin("order:o1")
    client.begin("order:o2", start=After(at(0)))
    client.begin("buyer:b", start=After(at(21)))
    client.begin("plan:p")
    client.begin("admin:market", start=Since(1))
    world.loop.run()
    world.market.answer(1)
    client.release()
    client.release()
    world.settle()
    client.resume()
    world.loop.run()
    world.assert_nothing_is_left()
    assert client.subscription_count == 0


def test_a_connection_that_leaves_on_a_gap_is_not_written_to(world: World) -> None:
    class Leaves(Recorder):
        def on_gap(self, *_: object) -> None:
            self.release()

    world.publish(*[order("o1")] * 20)
    client = Leaves(world)
    client.begin("order:o1", start=After(at(2)))
    world.market.answer()
    world.market.trim(9)
    world.settle()
    assert client.seen == []


def test_a_fault_in_one_connection_lets_that_one_go_and_nobody_else(world: World) -> None:
    class Breaks(Recorder):
        def on_events(self, *_: object) -> None:
            raise RuntimeError("a bug")

    world.publish(*[order("o1")] * 3)
    live, replaying, other = Breaks(world), Breaks(world), Recorder(world)
    live.begin("order:o1")
    replaying.pause()
    replaying.begin("order:o1", start=After(at(1)))
    other.begin("order:o1")
    world.publish(order("o1"))
    replaying.resume()
    world.loop.run()
    assert [live.closed, replaying.closed, other.closed] == [True, True, False]
    assert other.seen == [4]
    assert len(world.faults) == 2


def test_the_hooks_are_a_kind_of_clients_to_fill_in(world: World) -> None:
    client = Connection(world.replica.schedule.add)
    grant = world.grant("order:o1")
    with pytest.raises(NotImplementedError):
        client.subscribe(world.market.stream, (grant,), Now(), None, "notify")
    subscription = client.readers["MARKET"].subscriptions["order:o1"]
    with pytest.raises(NotImplementedError):
        client.on_events([])
    with pytest.raises(NotImplementedError):
        client.on_live(subscription, at(0), 0)
    with pytest.raises(NotImplementedError):
        client.on_gap(subscription, None)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        client.on_failed(subscription, Problem(ErrorCode.INTERNAL))


def test_clients_that_come_with_the_same_cursor_get_the_same_bytes(world: World) -> None:
    world.publish(*[order("o1")] * 3)
    sinks = []
    for _ in range(2):
        person = Person(world, principal("root", "admin"))
        person.ask(op="subscribe", channel="order:o1", cursor=f"MARKET.{EPOCH}.0")
        sinks.append(person.sink)
    world.settle()
    events = [[data for data in sink.writes if b'"op":"event"' in data] for sink in sinks]
    assert events[0]
    assert all(one is other for one, other in zip(*events, strict=True))
