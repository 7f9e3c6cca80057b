"""One connection's fault is its own: it is let go, told to the log, and nobody else misses anything."""

from collections.abc import Sequence

import pytest

from contracts.cursor import Cursor
from services.gateway.core.fanout import Part
from services.gateway.core.replay import After
from tests.harness.archive import EPOCH
from tests.harness.core import World, order, principal
from tests.harness.people import Person
from tests.harness.recorder import Recorder


class Faulty(Recorder):
    """A client whose every write raises."""

    def on_events(self, parts: Sequence[Part]) -> None:
        raise RuntimeError("a bug")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
    return World(log_bytes=1)


def test_a_live_client_that_raises_is_let_go_and_the_others_get_the_event(world: World) -> None:
    before, faulty, after = Recorder(world), Faulty(world), Recorder(world)
    for client in (before, faulty, after):
        client.begin("order:o1")
    world.publish(order("o1"), order("o1"))
    assert before.seen == after.seen == [1, 2]
    assert faulty.closed
    assert len(world.faults) == 1


def test_a_replaying_client_that_raises_does_not_stop_those_behind_it(world: World) -> None:
    world.publish(*[order("o1")] * 40)
    faulty, behind = Faulty(world), Recorder(world)
    for client in (faulty, behind):
        client.begin("order:o1", start=After(Cursor("MARKET", EPOCH, 0)))
    world.settle()
    assert behind.seen == list(range(1, 41))
    assert faulty.closed
    assert len(world.faults) == 1


def test_a_fault_while_a_step_is_taken_is_caught_as_well(world: World) -> None:
    world.publish(order("o1"))
    faulty, behind = Faulty(world), Recorder(world)
    faulty.pause()
    for client in (faulty, behind):
        client.begin("order:o1", start=After(Cursor("MARKET", EPOCH, 0)))
    faulty.resume()
    world.settle()
    assert faulty.closed
    assert behind.seen == [1]
    assert len(world.faults) == 1


def test_who_waits_for_a_subscribe_that_is_withdrawn_gets_an_answer(world: World) -> None:
    world.publish(*[order("o1")] * 40)
    person = Person(world, principal("root", "admin"))
    person.ask(op="subscribe", id="s", channel="order:o1", cursor=f"MARKET.{EPOCH}.1")
    assert person.ask(op="unsubscribe", id="u", channel="order:o1") == [
        {
            "op": "error",
            "id": "s",
            "channel": "order:o1",
            "error": {
                "code": "not_subscribed",
                "message": "the subscription ended before it began",
                "retryable": False,
            },
        },
        {"op": "unsubscribed", "id": "u", "channel": "order:o1"},
    ]
    world.settle()
    assert person.read() == []
