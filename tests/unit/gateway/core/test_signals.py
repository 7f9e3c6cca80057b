"""Signals through sessions, on fakes: whom they reach, how often, and what is dropped."""

import pytest

from tests.harness.core import World, order, principal
from tests.harness.people import Person
from tests.harness.presence import FakeCarrier, come, told, watched_order


@pytest.fixture
def world() -> World:
    return watched_order()


def test_a_slow_clients_signals_are_dropped(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    node.session.pause()
    buyer.ask(op="signal", channel="order:o1", kind="typing")
    node.session.resume()
    assert told(node) == []
    assert world.replica.presence.signals.tally.dropped["slow_client"] == 1


def test_typing_is_once_a_second_and_each_kind_for_itself(world: World) -> None:
    buyer = come(world, "b1")
    assert buyer.ask(op="signal", channel="order:o1", kind="typing") == []
    assert buyer.ask(op="signal", channel="order:o1", kind="status") == []
    [refused] = buyer.ask(op="signal", id=9, channel="order:o1", kind="typing")
    assert (refused["id"], refused["error"]["code"]) == (9, "rate_limited")
    assert 0 < refused["error"]["retry_after_ms"] <= 1001


def admins(world: World, count: int) -> list[Person]:
    """So many who are subscribed."""
    found = [Person(world, principal(f"root{number}")) for number in range(count)]
    for person in found:
        person.ask(op="subscribe", channel="order:o1")
    world.settle()
    return found


def test_in_a_channel_of_thousands_a_signal_keeps_nobody_waiting_and_too_many_are_dropped(world: World) -> None:
    everybody = admins(world, 600)
    buyer = come(world, "b1")

    def heard() -> list[int]:
        return [sum(message["op"] == "signal" for message in person.read()) for person in everybody]

    buyer.ask(op="signal", channel="order:o1", kind="typing")
    assert sum(heard()) == 256
    world.loop.turn()
    assert sum(heard()) == 256
    world.loop.run()
    assert sum(heard()) == 88
    # Each is heard by all in the order in which they came, as long as not too many are under way.
    for number, person in enumerate(everybody[:70]):
        person.ask(op="signal", channel="order:o1", kind="status", data=number)
    world.loop.run()
    said = [[message["data"] for message in person.heard if message["op"] == "signal"] for person in everybody[70:]]
    assert said == [[None, *range(16)]] * 530
    tally = world.replica.presence.signals.tally
    assert tally.dropped["too_many"] == 54
    heard()
    world.pass_time(2)
    buyer.ask(op="signal", channel="order:o1", kind="typing", data="again")
    world.loop.run()
    assert set(heard()) == {1}


def test_what_is_under_way_in_a_large_channel_keeps_no_small_one_waiting(world: World) -> None:
    world.publish(order("o2", buyer="b1", node="n1"))
    large, node = admins(world, 300), come(world, "n1", "node", channel="order:o2")
    for person in large[:20]:
        person.ask(op="signal", channel="order:o1", kind="status")
    come_in = Person(world, principal("b1", "buyer"))
    come_in.ask(op="subscribe", channel="order:o2")
    come_in.ask(op="signal", channel="order:o2", kind="typing")
    assert [message["op"] for message in node.read()] == ["signal"]
    world.loop.run()
    assert {sum(message["op"] == "signal" for message in person.heard) for person in large[20:]} == {16}


def test_what_grows_old_under_way_is_dropped(world: World) -> None:
    everybody = admins(world, 300)
    come(world, "b1").ask(op="signal", channel="order:o1", kind="typing")
    world.clock.seconds += 6
    world.loop.run()
    assert sum(message["op"] == "signal" for person in everybody for message in person.heard) == 256
    assert world.replica.presence.signals.tally.dropped["old"] == 44


def test_who_subscribes_anew_is_granted_no_more(world: World) -> None:
    buyer = come(world, "b1")
    buyer.ask(op="signal", channel="order:o1", kind="typing")
    buyer.ask(op="unsubscribe", channel="order:o1")
    buyer.ask(op="subscribe", channel="order:o1")
    [refused] = buyer.ask(op="signal", channel="order:o1", kind="typing")
    assert refused["error"]["code"] == "rate_limited"


def test_a_signal_reaches_the_others_and_not_its_own_connection(world: World) -> None:
    world.replica.presence.signals.carrier = carrier = FakeCarrier()
    buyer, again, node = come(world, "b1"), come(world, "b1"), come(world, "n1", "node", presence=False)
    assert buyer.ask(op="signal", channel="order:o1", kind="typing", data={"field": "price"}) == []
    signal = {"from": {"sub": "b1", "role": "buyer"}, "kind": "typing", "data": {"field": "price"}}
    assert told(node) == [signal]
    assert told(again) == [signal]
    assert told(buyer) == []
    assert [channel for channel, _ in carrier.carried] == ["order:o1"]


def test_a_signal_of_another_replica_reaches_who_is_subscribed_here(world: World) -> None:
    world.replica.presence.signals.carrier = carrier = FakeCarrier()
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    buyer.ask(op="signal", channel="order:o1", kind="status", data="away")
    [(_, payload)] = carrier.carried
    told(node)
    signals = world.replica.presence.signals
    signals.arrived("order", "o1", payload)
    assert told(node) == [{"from": {"sub": "b1", "role": "buyer"}, "kind": "status", "data": "away"}]
    signals.arrived("order", "nobody", payload)
    signals.arrived("nokind", "o1", payload)
    signals.arrived("order", "o1", b"rubbish")
    world.pass_time(5.5)
    signals.arrived("order", "o1", payload)
    assert told(node) == []
    assert signals.tally.dropped == {"malformed": 1, "old": 1}


def test_a_signal_that_cannot_be_carried_still_reaches_those_here(world: World) -> None:
    world.replica.presence.signals.carrier = carrier = FakeCarrier()
    carrier.works = False
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    buyer.ask(op="signal", channel="order:o1", kind="typing")
    assert len(told(node)) == 1
    assert world.replica.presence.signals.tally.dropped == {"not_carried": 1}


def test_who_cannot_be_told_keeps_nobody_of_another_channel_from_being_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = admins(world, 600)
    for person in everybody:
        person.ask(op="subscribe", channel="intent:i")
    world.settle()
    buyer = come(world, "b1")
    buyer.ask(op="subscribe", channel="intent:i")
    world.settle()

    def broken(data: bytes) -> None:
        raise OSError("no more")

    for channel in ("order:o1", "intent:i"):
        buyer.ask(op="signal", channel=channel, kind="typing")
    monkeypatch.setattr(everybody[300].sink, "write", broken)
    faults = 0
    for _ in range(20):
        try:
            world.loop.run()
        except OSError:
            faults += 1
    assert faults == 2
    buyer.ask(op="signal", channel="intent:i", kind="status")
    monkeypatch.undo()
    world.loop.run()
    heard = [message for message in everybody[-1].read() if message["op"] == "signal"]
    assert [(message["channel"], message["kind"]) for message in heard] == [("intent:i", "status")]
