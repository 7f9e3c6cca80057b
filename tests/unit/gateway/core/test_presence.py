"""Presence through sessions, on fakes: who is told of whom, and when."""

import pytest
from msgspec import Raw

from contracts.errors import CloseCode, ErrorCode, Problem
from contracts.presence import PAGE_MEMBERS
from services.gateway.core.limits import Limits
from services.gateway.core.log import PAGE_EVENTS
from services.gateway.core.session import Session
from tests.harness.core import FakeSink, World, order, principal
from tests.harness.people import Person
from tests.harness.presence import FakeStore, body, come, enter, settle, told, watched_order


@pytest.fixture
def world() -> World:
    return watched_order()


def test_members_come_right_after_subscribed(world: World) -> None:
    enter(come(world, "b1"), {"screen": "offer"})
    node = Person(world, principal("n1", "node"))
    answers = node.ask(op="subscribe", channel="order:o1", presence=True, id=1)
    assert [one["op"] for one in answers] == ["subscribed", "presence", "live"]
    assert answers[1]["members"] == [body("b1", data={"screen": "offer"})]


def test_who_enters_changes_its_data_and_leaves_is_told_to_the_others(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 1)
    assert told(node) == [{"joins": [body("b1", data=1)]}]
    enter(buyer, 2, action="update")
    assert told(node) == [{"updates": [body("b1", data=2)]}]
    enter(buyer, action="leave")
    assert told(node) == [{"leaves": [body("b1", data=2)]}]


def test_the_answer_repeats_the_id_and_comes_at_once(world: World) -> None:
    assert come(world, "b1").ask(op="presence", id="x", channel="order:o1", action="enter") == [
        {"op": "presence", "id": "x", "channel": "order:o1"}
    ]


def test_an_update_enters_who_is_not_there_and_leaving_twice_is_no_fault(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 7, action="update")
    assert told(node) == [{"joins": [body("b1", data=7)]}]
    enter(buyer, action="leave")
    enter(buyer, action="leave")
    assert told(node) == [{"leaves": [body("b1", data=7)]}]


def test_several_connections_of_one_principal_are_one_member(world: World) -> None:
    first, second, node = come(world, "b1"), come(world, "b1"), come(world, "n1", "node")
    enter(first, 1)
    enter(second, 2)
    assert told(node) == [{"joins": [body("b1", data=1)]}, {"updates": [body("b1", data=2)]}]
    enter(second, action="leave")
    assert told(node) == []
    enter(first, action="leave")
    assert told(node) == [{"leaves": [body("b1", data=2)]}]


def test_a_connection_that_is_lost_and_comes_back_within_the_grace_causes_nothing(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 1)
    told(node)
    for _ in range(3):
        buyer.session.release()
        world.pass_time(5)
        buyer = come(world, "b1")
        enter(buyer, 1)
    world.pass_time(30)
    assert told(node) == []


def test_a_connection_that_does_not_come_back_leaves_after_the_grace(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 1)
    told(node)
    buyer.session.release()
    world.pass_time(9)
    assert told(node) == []
    world.pass_time(2)
    assert told(node) == [{"leaves": [body("b1", data=1)]}]


def test_a_subscription_that_ends_ends_presence_at_once(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 1)
    told(node)
    buyer.ask(op="unsubscribe", channel="order:o1")
    assert told(node) == [{"leaves": [body("b1", data=1)]}]


def test_a_token_that_narrows_ends_presence_at_once(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 1)
    told(node)
    world.tokens["less"] = principal("b1", "buyer", channels=frozenset({"buyer:*"}))
    buyer.ask(op="auth", token="less")
    assert told(node) == [{"leaves": [body("b1", data=1)]}]


def test_who_is_revoked_is_gone_without_grace(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    enter(buyer, 1)
    told(node)
    buyer.session.end(CloseCode.REVOKED)
    assert told(node) == [{"leaves": [body("b1", data=1)]}]


def test_presence_and_signals_are_of_channels_one_is_subscribed_to(world: World) -> None:
    buyer = come(world, "b1")
    [refused] = buyer.ask(op="presence", id=1, channel="order:o2", action="enter")
    assert (refused["id"], refused["channel"], refused["error"]["code"]) == (1, "order:o2", "not_subscribed")
    [refused] = buyer.ask(op="signal", channel="node:n1", kind="typing")
    assert refused["error"]["code"] == "not_subscribed"


def test_who_did_not_ask_for_presence_is_not_told_and_may_enter_all_the_same(world: World) -> None:
    buyer, node = come(world, "b1", presence=False), come(world, "n1", "node")
    enter(buyer, 1)
    assert told(buyer) == []
    assert told(node) == [{"joins": [body("b1", data=1)]}]


def test_a_stranger_sees_nobody_and_nobody_sees_it(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    stranger = Person(world, principal("b2", "buyer"))
    answers = stranger.ask(op="subscribe", channel="order:o1", presence=True)
    assert [one["members"] for one in answers if one["op"] == "presence"] == [[]]
    enter(buyer, 1)
    assert stranger.ask(op="presence", id=5, channel="order:o1", action="enter") == [
        {"op": "presence", "id": 5, "channel": "order:o1"}
    ]
    assert stranger.ask(op="signal", channel="order:o1", kind="typing") == []
    told(buyer)
    assert told(node) == [{"joins": [body("b1", data=1)]}]
    assert told(stranger) == []


def test_a_stranger_becomes_a_party_with_its_first_event(world: World) -> None:
    buyer, node = come(world, "b1", channel="intent:i"), come(world, "n2", "node", channel="intent:i")
    enter(buyer, 1, channel="intent:i")
    enter(node, 2, channel="intent:i")
    assert told(node) == []
    world.publish("market.i.b1.n2.quote.q1")
    world.pass_time(2)
    assert told(node)[0] == {"members": [body("b1", data=1)]}
    assert {"joins": [body("n2", "node", 2)]} in told(buyer)


def test_on_an_intent_a_node_sees_itself_the_buyer_and_admins_and_never_another_node(world: World) -> None:
    world.publish("market.i.b1.n2.quote.q1")
    people = {
        "b1": come(world, "b1", channel="intent:i"),
        "n1": come(world, "n1", "node", channel="intent:i"),
        "n2": come(world, "n2", "node", channel="intent:i"),
        "root": come(world, "root", "admin", channel="intent:i"),
    }
    for person in people.values():
        enter(person, channel="intent:i")
    seen = {
        name: {one["sub"] for part in person.heard for one in part.get("joins", ())} for name, person in people.items()
    }
    assert seen == {
        "b1": {"b1", "n1", "n2", "root"},
        "n1": {"b1", "n1", "root"},
        "n2": {"b1", "n2", "root"},
        "root": {"b1", "n1", "n2", "root"},
    }
    late = Person(world, principal("n1", "node"))
    answers = late.ask(op="subscribe", channel="intent:i", presence=True)
    [listed] = [one["members"] for one in answers if one["op"] == "presence"]
    assert {one["sub"] for one in listed} == {"b1", "n1", "root"}
    people["n2"].ask(op="signal", channel="intent:i", kind="typing")
    assert [len(told(people[name])) for name in ("b1", "n1", "root")] == [1, 0, 1]


def test_below_the_log_a_party_is_found_in_the_archive_and_remembered(world: World) -> None:
    world.forget_below(1)
    buyer = Person(world, principal("b1", "buyer"))
    buyer.ask(op="subscribe", channel="order:o1", presence=True)
    assert len(world.market.asked) == 1
    settle(world)
    assert [one["members"] for one in buyer.read() if one["op"] == "presence"] == [[]]
    enter(come(world, "b1"), 1)
    assert not world.market.asked
    assert told(buyer) == [{"joins": [body("b1", data=1)]}]


def test_a_strangers_no_is_not_asked_again_for_a_while(world: World) -> None:
    world.forget_below(1)
    asked = -1
    for _ in range(3):
        stranger = Person(world, principal("b2", "buyer"))
        stranger.ask(op="subscribe", channel="order:o1", presence=True)
        asked = len(world.market.asked)
        settle(world)
        told(stranger)
    assert asked == 0


def test_a_party_that_the_archive_could_not_tell_is_told_once_it_can(world: World) -> None:
    world.forget_below(1)
    root, away = come(world, "root", "admin"), Problem(ErrorCode.REPLAY_UNAVAILABLE)
    buyer = Person(world, principal("b1", "buyer"))
    buyer.ask(op="subscribe", channel="order:o1", presence=True)
    buyer.ask(op="presence", channel="order:o1", action="enter", data=1)
    for _ in range(2):
        while world.market.asked:
            world.market.answer(answer=away)
        world.pass_time(6.5)
    assert root.read() == []
    assert len(world.market.asked) == 1  # one that has not answered is not asked at each look
    settle(world)
    assert told(root) == [{"joins": [body("b1", data=1)]}]
    assert told(buyer)[-2:] == [{"members": []}, {"joins": [body("b1", data=1)]}]
    for person in (buyer, root):
        person.leave()
    world.pass_time(20)
    assert not world.replica.presence.parties.awaited
    world.assert_nothing_is_left()


def test_the_log_is_looked_through_for_who_is_no_party_yet_a_page_a_turn(world: World) -> None:
    stranger = come(world, "b2")
    stranger.ask(op="presence", channel="order:o1", action="enter")
    for number in range(2 * PAGE_EVENTS):
        world.market.publish(order(f"q{number}", buyer="other"))
    world.market.publish(order("o1", buyer="b2"))
    world.market.feed()
    world.pass_time(1.25)
    turns = 0
    while world.loop.due:
        world.loop.turn()
        turns += 1
    assert turns >= 2
    assert told(stranger)[-1] == {"members": [body("b2")]}


def test_a_stranger_whom_the_archive_could_not_tell_stays_one(world: World) -> None:
    world.forget_below(1)
    stranger = Person(world, principal("b2", "buyer"))
    stranger.ask(op="subscribe", channel="order:o1", presence=True)
    world.market.answer(answer=Problem(ErrorCode.REPLAY_UNAVAILABLE))
    world.pass_time(6.5)
    settle(world)
    world.pass_time(20)
    assert not world.market.asked  # it said no, and is not asked again
    world.publish(order("o1", buyer="b2"))
    world.pass_time(1.5)
    enter(stranger, 2)
    assert told(stranger)[-1] == {"joins": [body("b2", data=2)]}


def test_a_long_list_comes_in_pages(world: World) -> None:
    presence = world.replica.presence
    for number in range(2 * PAGE_MEMBERS + 1):
        presence.enter("order:o1", (f"root{number}", "admin"), number, Raw(b"null"), 1)
    settle(world)
    buyer = Person(world, principal("b1", "buyer"))
    pages = [one for one in buyer.ask(op="subscribe", channel="order:o1", presence=True) if one["op"] == "presence"]
    assert [len(one["members"]) for one in pages] == [256, 256, 1]
    assert [one.get("more", False) for one in pages] == [True, True, False]


class SizesSink(FakeSink):
    """Keeps how long each write was, and none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))


def test_of_five_thousand_who_are_there_and_watch_each_is_told_of_a_join_in_one_small_message() -> None:
    world = watched_order()
    sinks = [SizesSink() for _ in range(5000)]
    for number, sink in enumerate(sinks):
        session = Session(world.replica, sink, principal(f"member{number}"))
        session.receive(b'{"op":"subscribe","channel":"order:o1","presence":true}')
        session.receive(b'{"op":"presence","channel":"order:o1","action":"enter","data":{"n":1}}')
    settle(world)
    assert world.replica.presence.roster.count == 5000
    for sink in sinks:
        sink.sizes.clear()
    come(world, "late", "admin").ask(op="presence", channel="order:o1", action="enter", data={"n": 1})
    settle(world)
    [told_sizes] = {tuple(sink.sizes) for sink in sinks}
    assert len(told_sizes) == 1
    assert told_sizes[0] < 120


def test_a_join_is_made_into_bytes_once_for_all_who_see_everybody(world: World) -> None:
    admins = [come(world, f"root{n}", "admin") for n in range(5)]
    enter(admins[0], "x" * 100)
    frames = {admin.sink.writes[-1] for admin in admins[1:]}
    assert len(frames) == 1
    assert len({id(admin.sink.writes[-1]) for admin in admins[1:]}) <= 2  # joined alone, the bytes are the same


def test_a_slow_client_is_told_what_it_missed_once_it_takes_it(world: World) -> None:
    buyer, node = come(world, "b1"), come(world, "n1", "node")
    node.session.pause()
    enter(buyer, 1)
    enter(buyer, 2, action="update")
    assert told(node) == []
    node.session.resume()
    assert told(node) == [{"joins": [body("b1", data=1)]}, {"updates": [body("b1", data=2)]}]


def test_a_client_that_was_slow_for_long_gets_the_whole_list(world: World) -> None:
    node = come(world, "n1", "node")
    node.session.pause()
    for number in range(100):
        world.replica.presence.enter("order:o1", ("root", "admin"), "s", Raw(b"%d" % number), 1)
        world.pass_time(0.25)
    node.session.resume()
    assert told(node) == [{"members": [body("root", "admin", 99)]}]


def test_the_sixth_presence_message_in_thirty_seconds_is_refused_with_when_to_retry() -> None:
    world = World(limits=Limits(client_burst=100))
    world.publish(order("o1", buyer="b1", node="n1"))
    buyer = come(world, "b1")
    codes = [buyer.ask(op="presence", channel="order:o1", action="update", data=n)[0] for n in range(6)]
    assert [one["op"] for one in codes] == ["presence"] * 5 + ["error"]
    assert codes[5]["error"]["code"] == "rate_limited"
    assert 0 < codes[5]["error"]["retry_after_ms"] <= 6001
    world.pass_time(6.1)
    [again] = buyer.ask(op="presence", channel="order:o1", action="leave")
    assert again["op"] == "presence"


def test_nothing_is_left_when_everybody_is_gone(world: World) -> None:
    world.replica.presence.store = store = FakeStore()
    world.replica.presence.hears(set())
    people = [come(world, "b1"), come(world, "n1", "node"), come(world, "b2")]
    for person in people:
        enter(person)
    for person in people:
        person.session.release()
    world.pass_time(30)
    presence = world.replica.presence
    assert (presence.watched, presence.roster.count, store.pages, store.watched) == (0, 0, {}, set())
    assert not presence.parties.awaited
    assert presence.due is None
    world.assert_nothing_is_left()
