import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, Problem
from services.gateway.core.eventstream import EventStream
from services.gateway.core.limits import Limits
from services.gateway.core.replay import After, Earliest, Last, Now, Start
from tests.harness.archive import EPOCH
from tests.harness.core import FakeSink, World, cursor_sequence, order, principal


def at(sequence: int) -> str:
    return f"MARKET.{EPOCH}.{sequence}"


def listen(
    world: World,
    *channels: str,
    start: Start | None = None,
    types: frozenset[str] | None = None,
    on_gap: str = "notify",
    high: int = 10**9,
    attached: bool = True,
) -> tuple[EventStream, FakeSink]:
    """An admin's event stream, its first bytes read."""
    who = principal()
    events, sink = EventStream(world.replica, who), FakeSink(high)
    assert world.replica.admit(who, events) is None
    sink.client = events
    grants = tuple(world.grant(channel) for channel in channels)
    events.begin(world.replica.streams[grants[0].stream], grants, start or Now(), types, on_gap)
    if attached:
        events.attach(sink)
    return events, sink


def ids(sink: FakeSink) -> list[int]:
    return [cursor_sequence(block["id"]) for block in sink.blocks() if block.get("event") in ("A", "B")]


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_bytes_are_a_reconnection_time_and_then_live(world: World) -> None:
    _, sink = listen(world, "order:o1")
    assert sink.blocks() == [{"retry": "2500"}, {"id": at(0), "event": "live", "data": '{"replayed":0}'}]


def test_events_of_several_channels_come_in_order_and_each_once(world: World) -> None:
    world.publish(order("o1"), order("o2"), order("o3"), kind="A")
    _, sink = listen(world, "order:o2", "buyer:b", "order:o1", start=Earliest())
    world.loop.run()
    world.publish(order("o1"), order("o2"), kind="B")
    assert ids(sink) == [1, 2, 3, 4, 5]
    assert world.replica.tally.deliveries == 5


@given(
    st.lists(st.sampled_from([order("o1"), order("o2"), order("o3", "b2")]), max_size=30),
    st.lists(st.sampled_from(["order:o1", "order:o2", "order:o3", "buyer:b"]), min_size=1, max_size=4, unique=True),
    st.integers(1, 5),
    st.integers(0, 30),
)
def test_last_is_counted_for_each_of_the_merged_channels(
    subjects: list[str], channels: list[str], last: int, later: int
) -> None:
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
        stored = world.publish(*subjects[:later], kind="A")
        world.forget_below(len(stored) // 2)
        _, sink = listen(world, *channels, start=Last(last))
        world.settle()
        wanted: set[int] = set()
        for channel in channels:
            wanted.update([one.sequence for one in stored if channel in one.keys][-last:])
        live = world.publish(*subjects[later:], kind="A")
        wanted.update(one.sequence for one in live if set(channels) & set(one.keys))
        assert ids(sink) == sorted(wanted)


def test_a_type_filter_keeps_other_types_and_untyped_events_away(world: World) -> None:
    _, sink = listen(world, "order:o1", types=frozenset("A"))
    for kind in ("A", "B", None, "A"):
        world.publish(order("o1"), kind=kind)
    assert ids(sink) == [1, 4]


def test_a_gap_is_named_with_where_delivery_goes_on(world: World) -> None:
    world.publish(order("o1"))
    _, sink = listen(world, "order:o1", start=After(world.market.stream.log.life.cursor(7)))
    world.settle()
    [_, gap, live] = sink.blocks()
    assert (gap["event"], gap["id"]) == ("gap", at(1))
    assert json.loads(gap["data"]) == {"reason": "ahead", "from": at(7), "to": at(1)}
    assert live["event"] == "live"


def test_a_quiet_stream_gets_a_ping_and_its_position_every_fifteen_seconds(world: World) -> None:
    _, sink = listen(world, "order:o1")
    sink.blocks()
    world.publish(order("o9"))
    world.pass_time(14.5)
    assert sink.blocks() == []
    world.pass_time(1.0)
    raw = sink.taken
    assert raw.endswith(
        b": ping\nevent: position\n".replace(b"event", b"id: %b\nevent" % at(1).encode()) + b"data: {}\n\n"
    )
    assert [block["event"] for block in sink.blocks()] == ["position"]
    world.pass_time(31)
    assert len(sink.blocks()) == 2


def test_an_event_puts_the_ping_off(world: World) -> None:
    _, sink = listen(world, "order:o1")
    world.pass_time(10)
    world.publish(order("o1"), kind="A")
    sink.blocks()
    world.pass_time(14)
    assert sink.blocks() == []


def test_while_it_replays_the_position_is_where_the_replay_stands(world: World) -> None:
    world.publish(*[order("o1")] * 10)
    world.forget_below(10)
    _, sink = listen(world, "order:o1", start=After(world.market.stream.log.life.cursor(4)))
    world.pass_time(16)
    assert "id" not in sink.blocks()[-1], "not placed yet"
    world.market.answer()
    world.pass_time(16)
    assert sink.blocks()[-1]["id"] == at(4)


def test_an_expired_token_ends_the_stream_with_a_problem_worth_a_retry(world: World) -> None:
    soon = world.clock.wall() + 5
    events, sink = EventStream(world.replica, principal(expires_at=soon)), FakeSink()
    world.replica.admit(principal(), events)
    events.begin(world.market.stream, (world.grant("order:o1"),), Now(), None, "notify")
    events.attach(sink)
    world.pass_time(34)
    assert not events.closed
    world.pass_time(2)
    [*_, retry, problem] = sink.blocks()
    assert retry == {"retry": "2000"}
    assert (problem["event"], problem["id"]) == ("problem", at(0))
    assert json.loads(problem["data"])["code"] == "token_expired"
    assert sink.closing
    world.assert_nothing_is_left()


def test_a_stream_whose_client_never_takes_the_rest_is_cut_off(world: World) -> None:
    events, sink = listen(world, "order:o1")
    events.leave()
    before = (sink.closing, sink.aborted)
    world.pass_time(6)
    assert (before, sink.aborted) == ((True, False), True)
    assert len(world.replica.wheel) == 0


def test_a_problem_before_the_head_is_told_to_who_waits_and_nothing_is_kept(world: World) -> None:
    events = EventStream(world.replica, principal())
    world.replica.admit(principal(), events)
    told: list[Problem | None] = []
    events.on_placed = told.append
    start = After(world.market.stream.log.life.cursor(7))
    events.begin(world.market.stream, (world.grant("order:o1"),), start, None, "refuse")
    world.settle()
    assert [one.code for one in told if one] == [ErrorCode.CURSOR_AHEAD]
    world.assert_nothing_is_left()


def test_who_waits_for_the_placement_is_told_once(world: World) -> None:
    events = EventStream(world.replica, principal())
    world.replica.admit(principal(), events)
    told: list[Problem | None] = []
    events.on_placed = told.append
    events.begin(world.market.stream, (world.grant("order:o1"),), Now(), None, "refuse")
    assert told == [None]
    world.market.stream.restart("recreated", "z" * 9, 0)
    assert told == [None]
    assert events.closed, "it refuses gaps"


def test_a_problem_nobody_waits_for_ends_the_stream_with_when_to_come_back(world: World) -> None:
    world.publish(*[order("o1")] * 3)
    world.forget_below(3)
    events, sink = listen(world, "order:o1", start=Earliest(), attached=False)
    world.market.answer(answer=Problem(ErrorCode.REPLAY_UNAVAILABLE, "why", 700))
    assert events.closed
    events.attach(sink)
    [_, retry, problem] = sink.blocks()
    assert retry == {"retry": "700"}
    assert json.loads(problem["data"])["message"] == "why"
    assert sink.closing
    world.assert_nothing_is_left()


def test_what_is_kept_before_the_head_is_bounded_and_nothing_is_lost(world: World) -> None:
    events, sink = listen(world, "order:o1", attached=False)
    for _ in range(50):
        world.publish(order("o1"), kind="A", padding=10_000)
    kept = sum(map(len, events._early or ()))
    assert 64 * 1024 <= kept < 80 * 1024
    assert events.tick(world.clock.now()) is None
    events.attach(sink)
    world.settle()
    assert ids(sink) == list(range(1, 51))
    assert events._early is None


def test_a_sink_that_stops_while_what_was_kept_is_sent_is_obeyed(world: World) -> None:
    events, sink = listen(world, "order:o1", attached=False, high=1000)
    for _ in range(50):
        world.publish(order("o1"), kind="A", padding=10_000)
    events.attach(sink)
    world.settle()
    assert sink.waiting < 80 * 1024, "no more than was kept"
    for _ in range(100):
        sink.drain()
        world.settle()
    assert ids(sink) == list(range(1, 51))


def test_a_client_that_takes_nothing_is_let_go_and_one_that_takes_a_little_is_not(world: World) -> None:
    _, stuck = listen(world, "order:o1", high=1000)
    slow, taking = listen(world, "order:o1", high=1000)
    world.publish(order("o1"), kind="A", padding=5000)
    for _ in range(8):
        world.pass_time(6)
        taking.drain(100)
    assert stuck.closing
    assert not slow.closed
    assert world.replica.tally.closed == {"too_slow": 1}
    for _ in range(3):
        taking.drain()
        world.loop.run()
    world.pass_time(16)
    assert taking.blocks()[-1]["event"] == "position", "once it keeps up, it is told its position in time"


def test_drain_tells_when_to_come_back_and_where_to_go_on(world: World) -> None:
    events, sink = listen(world, "order:o1")
    world.publish(order("o2"))
    events.drain()
    events.drain()
    [*_, retry, drain] = sink.blocks()
    assert retry == {"retry": "500"}
    assert drain == {"id": at(1), "event": "drain", "data": '{"reconnect_in_ms":500}'}
    assert sink.closing
    world.assert_nothing_is_left()


def test_a_stream_of_plans_ends_with_the_last_ones_final_event(world: World) -> None:
    events, sink = listen(world, "plan:p1", "plan:p2")
    world.publish("plan.b.p1", kind="A", final=True)
    assert not events.closed
    world.publish("plan.b.p2", kind="A", final=True)
    [*_, final, end] = sink.blocks()
    assert cursor_sequence(final["id"]) == 2
    assert end == {"id": f"PLANS.{EPOCH}.2", "event": "end", "data": "{}"}
    assert sink.closing
    world.publish("plan.b.p2")
    assert sink.blocks() == []
    world.assert_nothing_is_left()


def test_a_final_event_ends_the_stream_even_where_its_type_is_not_wanted(world: World) -> None:
    world.publish("plan.b.p1", kind="B")
    events, sink = listen(world, "plan:p1", start=Earliest(), types=frozenset("A"))
    world.loop.run()
    world.publish("plan.b.p1", kind="A")
    world.publish("plan.b.p1", kind="B", final=True)
    assert events.closed
    assert [block.get("event") for block in sink.blocks()] == [None, "live", "A", "end"]


def test_a_plan_that_ended_before_the_cursor_is_not_waited_for(world: World) -> None:
    world.publish("plan.b.p1", final=True)
    world.publish("plan.b.p2")
    who = principal()
    events, sink = EventStream(world.replica, who), FakeSink()
    world.replica.admit(who, events)
    grants = (world.grant("plan:p1"), world.grant("plan:p2"))
    start = After(world.plans.stream.log.life.cursor(1))
    events.begin(world.plans.stream, grants, start, None, "notify", finals={"plan:p1": 1})
    events.attach(sink)
    world.loop.run()
    world.publish("plan.b.p2", final=True)
    assert sink.blocks()[-1]["event"] == "end"


def test_an_event_never_poses_as_a_control_event(world: World) -> None:
    _, sink = listen(world, "order:o1")
    world.publish(order("o1"), kind="end")
    assert "event" not in sink.blocks()[-1]


def test_a_stream_that_broke_is_cut_off(world: World) -> None:
    events, sink = listen(world, "order:o1")
    other, _ = listen(world, "order:o1", attached=False)
    events.abandon()
    other.abandon()
    assert sink.aborted
    assert len(world.replica.wheel) == 0
    world.assert_nothing_is_left()


def test_many_streams_are_told_apart_by_their_channels_alone(world: World) -> None:
    streams = [listen(world, "order:o1", start=Earliest()) for _ in range(5)]
    world.publish(order("o1"), kind="A")
    assert len({sink.taken for _, sink in streams}) == 1


def test_the_stall_is_not_judged_before_its_time() -> None:
    world = World(limits=Limits(stall_seconds=100))
    events, sink = listen(world, "order:o1", high=10)
    world.publish(order("o1"), kind="A", padding=100)
    world.pass_time(99)
    assert not events.closed
    world.pass_time(2)
    assert sink.closing
