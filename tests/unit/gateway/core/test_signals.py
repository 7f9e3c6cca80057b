"""Signals through sessions, on fakes: whom they reach, how often, and what is dropped."""

import pytest

from tests.harness.core import World
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
