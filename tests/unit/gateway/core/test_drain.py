"""A replica leaves evenly: who is told what, who closes when, and what hurries it."""

import itertools
import json

import pytest

from services.gateway.core.connection import Connection
from services.gateway.core.drain import Drain
from services.gateway.core.eventstream import EventStream
from services.gateway.core.replay import Now
from tests.harness.core import FakeSink, World, ops, principal
from tests.harness.people import Person


@pytest.fixture
def world() -> World:
    found = World()
    chances = itertools.cycle([0.3, 0.9, 0.1, 0.6, 0.2])
    found.replica.random = lambda: next(chances)
    return found


def people(world: World, count: int) -> list[Person]:
    found = [Person(world, principal(f"b{number}", "buyer")) for number in range(count)]
    for person in found:
        person.read()
    return found


def test_during_the_grace_everything_goes_on_and_new_ones_are_served(world: World) -> None:
    [early] = people(world, 1)
    done: list[bool] = []
    Drain(world.replica, 10, 4, lambda: done.append(True))
    world.pass_time(9.5)
    [late] = people(world, 1)
    assert (world.replica.leaving, world.replica.draining) == (True, False)
    assert early.ask(op="heartbeat", id=1)[0]["op"] == late.ask(op="heartbeat", id=1)[0]["op"] == "heartbeat"
    assert not done
    world.pass_time(0.75)
    assert world.replica.draining
    turned_away = Person(world, principal("b9", "buyer"))
    error, close = turned_away.read()
    assert (error["error"]["code"], error["error"]["retry_after_ms"], close["code"]) == ("draining", 1000, 4200)


def test_each_is_told_when_it_closes_and_they_close_evenly(world: World) -> None:
    everybody = people(world, 40)
    done: list[bool] = []
    Drain(world.replica, 0, 10, lambda: done.append(True))
    told = []
    for person in everybody:
        [drain] = [message for message in person.read() if message["op"] == "drain"]
        told.append(drain["reconnect_in_ms"])
    assert min(told) >= 0
    assert max(told) <= 10_000
    assert sorted(told) == [125 + 250 * place for place in range(40)]
    closed = []
    for _ in range(10):
        assert not done
        world.pass_time(1)
        closed.append(sum(person.session.closed for person in everybody))
    world.pass_time(0.5)
    assert done == [True]
    steps = [after - before for before, after in itertools.pairwise([0, *closed])]
    assert max(steps) <= 5
    assert all(person.session.closed for person in everybody)
    for person, due in zip(everybody, told, strict=True):
        messages = person.read()
        assert [message["code"] for message in messages if message["op"] == "close"] == [4200], due
        assert "drain" not in ops(messages)


def test_an_event_stream_is_told_when_it_ends(world: World) -> None:
    events, sink = EventStream(world.replica, principal()), FakeSink()
    assert world.replica.admit(principal(), events) is None
    events.begin(world.market.stream, (world.grant("order:o1"),), Now(), None, "notify")
    events.attach(sink)
    sink.blocks()
    Drain(world.replica, 0, 2, lambda: None)
    assert sink.blocks() == []
    world.pass_time(1.5)
    drain = sink.blocks()[-1]
    assert drain["event"] == "drain"
    assert json.loads(drain["data"])["reconnect_in_ms"] <= 1000
    assert sink.closing
    world.assert_nothing_is_left()


def test_who_leaves_by_itself_is_passed_over(world: World) -> None:
    one, other = people(world, 2)
    done: list[bool] = []
    Drain(world.replica, 0, 2, lambda: done.append(True))
    one.leave()
    world.pass_time(2.25)
    assert other.session.closed
    assert done == [True]


def test_nobody_there_is_no_reason_to_wait(world: World) -> None:
    done: list[bool] = []
    Drain(world.replica, 0, 60, lambda: done.append(True))
    assert done == [True]
    assert len(world.replica.wheel) == 0


def test_where_all_have_left_nothing_more_is_waited_for(world: World) -> None:
    everybody = people(world, 5)
    done: list[bool] = []
    Drain(world.replica, 0, 60, lambda: done.append(True))
    for person in everybody:
        person.leave()
    world.pass_time(0.5)
    assert done == [True]
    assert len(world.replica.wheel) == 0


def test_a_second_signal_waits_for_nothing(world: World) -> None:
    people(world, 3)
    done: list[bool] = []
    drain = Drain(world.replica, 10, 60, lambda: done.append(True))
    drain.hurry()
    drain.hurry()
    assert (done, world.replica.draining) == ([True], True)
    world.pass_time(100)
    assert done == [True]


def test_more_than_can_be_told_at_once_are_told_when_they_close(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.core.drain._TOLD_A_TICK", 1)
    everybody = people(world, 12)
    Drain(world.replica, 0, 1, lambda: None)
    world.pass_time(1.25)
    for person in everybody:
        messages = person.read()
        assert [message["op"] for message in messages] == ["drain", "close"]


def test_a_kind_of_connection_that_knows_no_drain_is_let_go() -> None:
    world = World()

    class Plain(Connection):
        connection_id = "1"

    plain = Plain(world.replica.schedule.add)
    world.replica.connections[plain] = None
    Drain(world.replica, 0, 1, lambda: None)
    world.pass_time(1)
    assert plain.closed
