import json
from itertools import pairwise

import pytest

from services.gateway.core.limits import Limits
from services.gateway.core.replay import time_ns_of
from tests.harness.archive import EPOCH, SECOND_NS
from tests.harness.core import World, ops, order, principal
from tests.harness.people import Person


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def person(world: World) -> Person:
    return Person(world, principal())


@pytest.mark.parametrize(
    ("text", "code", "message_id"),
    [
        (b"", "invalid_json", None),
        (b'{"op":', "invalid_json", None),
        (b'{"op":"heartbeat","id":"\xff"}', "invalid_json", None),
        (b"[" * 60_000, "invalid_json", None),
        (b"[]", "invalid_message", None),
        (b'{"id":1}', "invalid_message", 1),
        (b'{"op":1,"id":"x"}', "invalid_message", "x"),
        (b'{"op":"heartbeat","id":1.5}', "invalid_message", None),
        (b'{"op":"heartbeat","id":true}', "invalid_message", None),
        (b'{"op":"subscribe","id":1}', "invalid_message", 1),
        (b'{"op":"subscribe","id":1,"channel":7}', "invalid_message", 1),
        (b'{"op":"subscribe","id":1,"channel":"order:o","last":0}', "invalid_message", 1),
        (b'{"op":"subscribe","id":1,"channel":"order:o","last":1001}', "invalid_message", 1),
        (b'{"op":"subscribe","id":1,"channel":"order:o","last":1,"cursor":"earliest"}', "invalid_message", 1),
        (b'{"op":"subscribe","id":1,"channel":"order:o","on_gap":"ignore"}', "invalid_message", 1),
        (b'{"op":"subscribe","id":1,"channel":"order:o","types":[]}', "invalid_message", 1),
        (b'{"op":"resume","id":1,"channels":{"order:o":7}}', "invalid_message", 1),
        (b'{"op":"nonsense","id":"n"}', "unknown_op", "n"),
        (b'{"op":"presence","id":2,"channel":"order:o","action":"sit"}', "invalid_message", 2),
        (b'{"op":"signal","channel":"order:o","kind":"smell","data":{}}', "invalid_message", None),
        (b'{"op":"signal","channel":"order:o","kind":"typing","data":"%b"}' % (b"x" * 1023), "invalid_message", None),
    ],
)
def test_what_cannot_be_acted_on_is_answered_with_its_id_and_harms_nothing(
    person: Person, text: bytes, code: str, message_id: object
) -> None:
    person.read()
    [answer] = person.say(text)
    assert (answer["op"], answer["id"], answer["error"]["code"]) == ("error", message_id, code)
    assert ops(person.ask(op="heartbeat")) == ["heartbeat"]


def test_the_tenth_malformed_message_in_a_minute_closes_4001(world: World, person: Person) -> None:
    for _ in range(9):
        person.say(b"{")
        world.pass_time(6)
    assert not person.session.closed
    [*_, close] = person.say(b"{")
    assert (close["code"], close["reason"]) == (4001, "bad_request")


def test_malformed_messages_a_minute_apart_are_forgiven(world: World, person: Person) -> None:
    for _ in range(30):
        person.say(b"{")
        world.pass_time(7)
    assert not person.session.closed


def test_a_client_that_sends_too_fast_is_told_when_to_go_on(world: World, person: Person) -> None:
    answers = [person.ask(op="heartbeat", id=number)[-1] for number in range(41)]
    assert ops(answers) == ["heartbeat"] * 40 + ["error"]
    assert answers[-1]["error"]["code"] == "rate_limited"
    assert answers[-1]["id"] == 40
    assert person.say(b'{"op":"subscribe","id":{}}')[-1]["id"] is None
    world.clock.seconds += answers[-1]["error"]["retry_after_ms"] / 1000
    assert ops(person.ask(op="heartbeat")) == ["heartbeat"]


def test_a_client_that_does_not_slow_down_is_closed_4101(person: Person) -> None:
    for _ in range(79):
        person.ask(op="heartbeat")
    assert not person.session.closed
    [_, close] = person.ask(op="heartbeat")
    assert (close["code"], close["reason"]) == (4101, "rate")


def test_heartbeats_come_at_least_every_25_seconds_with_a_ping_whatever_the_traffic(
    world: World, person: Person
) -> None:
    person.ask(op="subscribe", channel="order:o1")
    moments = []
    for second in range(200):
        world.pass_time(1)
        person.ask(op="heartbeat", id="mine")
        world.publish(order("o1"))
        found = person.heard
        person._heard.clear()
        if {"op": "ping"} in found:
            at = found.index({"op": "ping"})
            assert found[at - 1]["op"] == "heartbeat"
            assert "id" not in found[at - 1]
            moments.append(second)
    assert len(moments) >= 200 // 25
    assert all(later - earlier <= 25 for earlier, later in pairwise(moments))


def test_a_heartbeats_cursor_moves_on_while_a_channel_is_quiet(world: World, person: Person) -> None:
    person.ask(op="subscribe", channel="order:o1")
    person.ask(op="subscribe", channel="plan:p1")
    world.publish(order("o9"), order("o9"), "plan.b.p9")
    assert person.ask(op="heartbeat", id="h") == [
        {"op": "heartbeat", "id": "h", "cursors": {"MARKET": f"MARKET.{EPOCH}.2", "PLANS": f"PLANS.{EPOCH}.1"}}
    ]


def test_a_heartbeat_leaves_out_a_stream_with_a_channel_that_is_not_live(world: World, person: Person) -> None:
    world.publish(*[order("o1")] * 3)
    world.forget_below(3)
    person.ask(op="subscribe", channel="order:o1")
    person.ask(op="subscribe", channel="order:o2", cursor="earliest")
    person.ask(op="subscribe", channel="plan:p1")
    assert person.ask(op="heartbeat")[0]["cursors"] == {"PLANS": f"PLANS.{EPOCH}.0"}
    world.settle()
    assert set(person.ask(op="heartbeat")[-1]["cursors"]) == {"MARKET", "PLANS"}


def test_a_heartbeats_cursor_is_never_beyond_what_a_slow_client_was_written(world: World) -> None:
    person = Person(world, principal(), high=300)
    person.ask(op="subscribe", channel="order:o1")
    for _ in range(20):
        world.publish(order("o1"))
    written = person.heard[-1]["cursor"]
    assert person.session.writable is False
    assert person.ask(op="heartbeat")[0]["cursors"] == {"MARKET": written}


def test_before_authentication_there_is_no_heartbeat() -> None:
    world = World(limits=Limits(auth_seconds=100))
    person = Person(world)
    world.pass_time(50)
    assert person.heard == []


def test_sixty_seconds_without_a_frame_close_4201(world: World) -> None:
    silent, ponging = Person(world, principal()), Person(world, principal())
    for _ in range(6):
        world.pass_time(9.9)
        ponging.session.heard(counts=True)
    assert not silent.session.closed
    world.pass_time(1)
    assert silent.heard[-1] == {"op": "close", "code": 4201, "reason": "no_heartbeat"}
    assert not ponging.session.closed


def test_a_client_that_takes_nothing_for_thirty_seconds_is_closed_4102(world: World) -> None:
    person = Person(world, principal(), high=10)
    person.ask(op="subscribe", channel="order:o1")
    world.pass_time(29)
    assert not person.session.closed
    world.pass_time(1.5)
    assert person.heard[-1] == {"op": "close", "code": 4102, "reason": "too_slow"}
    world.pass_time(6)
    assert person.sink.aborted
    assert len(world.replica.wheel) == 0


def test_a_slow_client_that_makes_progress_stays_though_it_is_not_listened_to(world: World) -> None:
    person = Person(world, principal(), high=10_000)
    person.ask(op="subscribe", channel="order:o1")
    world.publish(order("o1"), padding=60_000)
    for _ in range(12):
        world.pass_time(14)
        person.sink.drain(1000)
    assert not person.session.closed, "while it is paused nobody reads its heartbeats"
    assert person.session.writable is False
    person.sink.drain()
    world.pass_time(50)
    assert not person.session.closed, "it has its time to be heard again"


def test_a_client_that_answers_the_close_in_time_is_not_cut_off(world: World, person: Person) -> None:
    person.session.drain()
    person.leave()
    world.pass_time(10)
    assert not person.sink.aborted
    assert person.sink.closing


def test_what_a_session_writes_is_counted(world: World, person: Person) -> None:
    person.ask(op="subscribe", channel="order:o1")
    world.publish(order("o1"))
    person.say(b"{")
    person.session.drain()
    tally = world.replica.tally
    assert (tally.opened, tally.closed, tally.problems) == ({"websocket": 1}, {"drain": 1}, {"invalid_json": 1})
    assert tally.deliveries == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", SECOND_NS),
        ("1970-01-01t00:00:01z", SECOND_NS),
        ("1970-01-01T02:00:01.5+02:00", SECOND_NS * 3 // 2),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.0000000019Z", 1),
        ("1969-12-31T23:59:59.25Z", -SECOND_NS * 3 // 4),
        ("2026-11-20T10:00:00.000001Z", 1_795_168_800_000_001_000),
        ("9999-12-31T23:59:59-23:59", 2**63 - 1),
        ("2500-01-01T00:00:00Z", 2**63 - 1),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140 * SECOND_NS),
        ("", None),
        ("now", None),
        ("2026-11-20", None),
        ("2026-11-20T10:00:00", None),
        ("2026-11-20T10:00Z", None),
        ("2026-11-20 10:00:00Z", None),
        ("2026-02-30T10:00:00Z", None),
        ("20261120T100000Z", None),
        ("2026-W47-5T10:00:00Z", None),
        ("2026-11-20T10:00:00+00:00:30", None),
        ("2026-11-20T10:00:00+99:00", None),
        ("٢٠٢٦-11-20T10:00:00Z", None),
    ],
)
def test_since_takes_the_times_of_rfc_3339_and_no_others(text: str, expected: int | None) -> None:
    assert time_ns_of(text) == expected


def test_since_a_time_no_stream_can_count_to_begins_at_the_end(world: World, person: Person) -> None:
    world.publish(order("o1"))
    person.read()
    answers = person.say(
        json.dumps({"op": "subscribe", "channel": "order:o1", "since": "9999-12-31T23:59:59-23:59"}).encode()
    )
    assert ops(answers) == ["subscribed", "live"]


def test_a_resume_of_channels_without_measure_is_one_refusal(person: Person, world: World) -> None:
    channels = {f"order:o{number}": "earliest" for number in range(2 * world.limits.max_channels + 1)}
    (answer,) = person.ask(op="resume", id=5, channels=channels)
    assert (answer["id"], answer["error"]["code"]) == (5, "too_many_subscriptions")
    assert person.session.subscription_count == 0
