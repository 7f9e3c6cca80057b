"""Members at other replicas, as their pages and leases tell of them: shown, kept for the grace, and buried."""

import pytest

from contracts.presence import decode_page
from tests.harness.core import World, principal
from tests.harness.people import Person
from tests.harness.presence import FakeStore, body, come, enter, there, told, watched_order


@pytest.fixture
def world() -> World:
    return watched_order()


def test_pages_of_replicas_that_live_are_shown_and_no_others(world: World) -> None:
    world.replica.presence.store = store = FakeStore()
    presence = world.replica.presence
    presence.hears({"r2"})
    buyer = come(world, "b1")
    assert store.watched == {"order:o1"}
    presence.told("order:o1", {("r2", 0): [there("n1")], ("dead", 0): [there("ghost")]}, whole=True)
    assert told(buyer) == [{"members": [body("n1", "node")]}]
    buyer.ask(op="unsubscribe", channel="order:o1")
    assert store.watched == set()


def test_a_replica_that_falls_silent_loses_its_members_and_is_buried(world: World) -> None:
    world.replica.presence.store = store = FakeStore()
    presence = world.replica.presence
    presence.hears({"r2"})
    buyer = come(world, "b1")
    presence.told("order:o1", {("r2", 0): [there("n1")]}, whole=True)
    told(buyer)
    world.pass_time(17)
    assert told(buyer) == []
    world.pass_time(3)
    assert told(buyer) == [{"leaves": [body("n1", "node")]}]
    assert store.buried == ["r2"]


def test_without_the_store_the_members_here_are_told_after_a_while(world: World) -> None:
    world.replica.presence.store = FakeStore()
    buyer = come(world, "b1")
    enter(buyer, 1)
    world.pass_time(3)
    assert told(buyer) == [{"members": [body("b1", data=1)]}]
    world.replica.presence.hears({"r2"})
    world.replica.presence.told("order:o1", {("r2", 0): [there("n1")]}, whole=True)
    assert told(buyer) == [{"joins": [body("n1", "node")]}]


def test_what_changes_within_a_slot_is_written_as_one_page(world: World) -> None:
    world.replica.presence.store = store = FakeStore()
    people = [Person(world, principal(f"root{n}", "admin")) for n in range(20)]
    for person in people:
        person.ask(op="subscribe", channel="order:o1")
        person.ask(op="presence", channel="order:o1", action="enter")
    world.pass_time(0.5)
    assert store.writes == 1
    assert len(decode_page(store.pages["order:o1", 0])) == 20


def test_who_moves_to_another_replica_within_the_grace_has_not_been_away(world: World) -> None:
    world.replica.presence.store = FakeStore()
    presence = world.replica.presence
    presence.hears({"r2"})
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    presence.told("order:o1", {}, whole=True)
    enter(node)
    told(buyer)
    node.session.release()
    world.pass_time(5)
    presence.renewed("r2")
    presence.told("order:o1", {("r2", 0): [there("n1", at=2**60)]}, whole=False)
    world.pass_time(13)
    assert told(buyer) == []
