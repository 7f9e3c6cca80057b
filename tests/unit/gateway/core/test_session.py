import pytest

from contracts.errors import ErrorCode, Problem
from services.gateway.core.limits import Limits
from services.gateway.core.session import Session
from tests.harness.archive import EPOCH
from tests.harness.core import World, ops, order, principal
from tests.harness.people import Person


@pytest.fixture
def world() -> World:
    return World()


def test_with_a_token_in_the_handshake_welcome_is_the_first_message(world: World) -> None:
    person = Person(world, principal("b1", "buyer"))
    assert person.read() == [
        {
            "op": "welcome",
            "connection_id": "c0",
            "protocol": 1,
            "principal": {"sub": "b1", "role": "buyer"},
            "region": "test",
            "heartbeat_s": 25.0,
            "limits": {"max_channels": 128, "client_rate": 20.0, "client_burst": 40, "idle_s": 60.0},
        }
    ]


def test_without_a_token_the_first_message_has_to_bring_it(world: World) -> None:
    world.tokens["t"] = principal("b1", "buyer")
    person = Person(world)
    assert person.read() == []
    [welcome] = person.ask(op="auth", token="t", id="a")
    assert (welcome["op"], welcome["id"]) == ("welcome", "a")
    assert person.ask(op="heartbeat") == [{"op": "heartbeat", "cursors": {}}]


def test_anything_else_first_is_unauthenticated_and_closes(world: World) -> None:
    person = Person(world)
    error, close = person.ask(op="subscribe", channel="order:o1", id=3)
    assert (error["id"], error["error"]["code"]) == (3, "unauthenticated")
    assert (close["code"], close["reason"]) == (4003, "unauthenticated")


def test_no_token_in_ten_seconds_closes_4008(world: World) -> None:
    person = Person(world)
    world.pass_time(9.9)
    assert person.read() == []
    world.pass_time(0.6)
    error, close = person.read()
    assert error["error"]["code"] == "unauthenticated"
    assert (close["code"], close["reason"]) == (4008, "auth_timeout")


@pytest.mark.parametrize(
    ("code", "close"),
    [
        (ErrorCode.TOKEN_INVALID, 4003),
        (ErrorCode.TOKEN_EXPIRED, 4202),
        (ErrorCode.REVOKED, 4004),
        (ErrorCode.FORBIDDEN, 4003),
        (ErrorCode.REPLAY_UNAVAILABLE, 4100),
    ],
)
def test_a_token_that_is_refused_closes_with_its_code(world: World, code: ErrorCode, close: int) -> None:
    world.tokens["t"] = Problem(code)
    error, closed = Person(world).ask(op="auth", token="t", id=1)
    assert (error["id"], error["error"]["code"]) == (1, code.wire)
    assert closed["code"] == close


def test_one_connection_too_many_is_told_after_the_upgrade_and_closes_4005() -> None:
    world = World(limits=Limits(max_connections_per_principal=1))
    world.tokens["t"] = principal("b1", "buyer")
    first = Person(world, principal("b1", "buyer"))
    late = Person(world)
    error, close = late.ask(op="auth", token="t", id="x")
    assert (error["id"], error["error"]["code"], close["code"]) == ("x", "too_many_connections", 4005)
    assert ops(Person(world, principal("b1", "buyer")).read()) == ["error", "close"]
    first.leave()
    assert ops(Person(world, principal("b1", "buyer")).read()) == ["welcome"]


def test_a_refreshed_token_is_answered_and_moves_the_expiry_on(world: World) -> None:
    person = Person(world, principal("b1", "buyer", expires_at=world.clock.wall() + 10))
    world.tokens["t"] = principal("b1", "buyer", expires_at=world.clock.wall() + 100)
    person.read()
    assert person.ask(op="auth", token="t", id=9) == [{"op": "auth", "id": 9}]
    world.pass_time(45)
    assert not person.session.closed


@pytest.mark.parametrize("other", [principal("b2", "buyer"), principal("b1", "node"), Problem(ErrorCode.TOKEN_INVALID)])
def test_a_refresh_has_to_keep_sub_and_role(world: World, other: object) -> None:
    world.tokens["t"] = other  # type: ignore[assignment]
    person = Person(world, principal("b1", "buyer"))
    person.read()
    error, close = person.ask(op="auth", token="t", id=9)
    assert error["id"] == 9
    assert close["code"] == 4003
    world.assert_nothing_is_left()


def test_channels_that_the_new_token_no_longer_covers_are_unsubscribed(world: World) -> None:
    world.tokens["t"] = principal("b1", "buyer", channels=frozenset({"order:*"}))
    person = Person(world, principal("b1", "buyer"))
    for channel in ("buyer:b1", "order:o1", "plan:p1"):
        person.ask(op="subscribe", channel=channel)
    assert person.ask(op="auth", token="t") == [
        {"op": "auth"},
        {"op": "unsubscribed", "channel": "buyer:b1"},
        {"op": "unsubscribed", "channel": "plan:p1"},
    ]
    world.publish(order("o1", "b1"))
    assert [message["channel"] for message in person.read()] == ["order:o1"]


def test_an_expired_token_closes_4202_after_its_grace(world: World) -> None:
    person = Person(world, principal("b1", "buyer", expires_at=world.clock.wall() + 5))
    person.read()
    world.pass_time(34)
    assert "close" not in ops(person.read())
    world.pass_time(2)
    error, close = person.read()
    assert (error["error"]["code"], close["code"], close["reason"]) == ("token_expired", 4202, "token_expired")


def test_messages_wait_while_a_token_is_verified(world: World) -> None:
    world.verifies_at_once = False
    world.tokens["t"] = principal("b1", "buyer")
    person = Person(world)
    person.ask(op="auth", token="t")
    before = person.sink.held
    world.verify()
    assert (before, person.sink.held) == (True, False)
    assert ops(person.read()) == ["welcome"]


def test_messages_wait_no_longer_once_the_session_has_ended(world: World) -> None:
    world.verifies_at_once = False
    world.tokens["t"] = principal("b1", "buyer")
    person = Person(world)
    person.ask(op="auth", token="t")
    world.pass_time(10.5)
    assert ops(person.read()) == ["error", "close"]
    world.verify()
    assert person.read() == []
    assert not person.sink.held, "its client's close frame has to be read"


def test_a_leaving_replica_takes_nobody(world: World) -> None:
    world.replica.draining = True
    person = Person(world, principal("b1", "buyer"))
    error, close = person.read()
    assert (error["error"]["code"], close["code"], close["reason"]) == ("draining", 4200, "drain")


def test_drain_tells_when_to_come_back_and_closes_4200(world: World) -> None:
    person = Person(world, principal())
    person.read()
    person.session.drain()
    person.session.drain()
    assert person.read() == [
        {"op": "drain", "reconnect_in_ms": 500},
        {"op": "close", "code": 4200, "reason": "drain"},
    ]
    assert person.sink.closing


# Subscribing.


def test_a_subscription_is_answered_then_replayed_then_live(world: World) -> None:
    world.publish(order("o1"), order("o1"))
    person = Person(world, principal())
    person.read()
    person.ask(op="subscribe", id="s", channel="order:o1", cursor=f"MARKET.{EPOCH}.1")
    world.loop.run()
    world.publish(order("o1"))
    told = [{**message, "event": message.get("event", {}).get("n")} for message in person.heard]
    assert told == [
        {"op": "subscribed", "id": "s", "channel": "order:o1", "stream": "MARKET", "cursor": f"MARKET.{EPOCH}.1"}
        | {"event": None},
        {"op": "event", "channel": "order:o1", "cursor": f"MARKET.{EPOCH}.2", "event": 2},
        {"op": "live", "channel": "order:o1", "cursor": f"MARKET.{EPOCH}.2", "replayed": 1, "event": None},
        {"op": "event", "channel": "order:o1", "cursor": f"MARKET.{EPOCH}.3", "event": 3},
    ]


@pytest.mark.parametrize(
    ("role", "channel", "more", "code"),
    [
        ("admin", "order", {}, "invalid_channel"),
        ("admin", "order:", {}, "invalid_channel"),
        ("admin", "order:*", {}, "invalid_channel"),
        ("admin", "orders:o1", {}, "unknown_channel"),
        ("admin", "market:else", {}, "unknown_channel"),
        ("buyer", "admin:market", {}, "forbidden"),
        ("buyer", "buyer:b2", {}, "forbidden"),
        ("service", "order:o1", {}, "forbidden"),
        ("admin", "order:o1", {"cursor": "x"}, "invalid_cursor"),
        ("admin", "order:o1", {"cursor": f"PLANS.{EPOCH}.1"}, "invalid_cursor"),
        ("admin", "order:o1", {"since": "yesterday"}, "invalid_message"),
    ],
)
def test_a_refused_subscribe_names_its_id_and_channel_and_leaves_the_connection_open(
    world: World, role: str, channel: str, more: dict[str, str], code: str
) -> None:
    person = Person(world, principal("b1", role))
    person.read()
    [error] = person.ask(op="subscribe", id=5, channel=channel, **more)
    assert (error["op"], error["id"], error["channel"], error["error"]["code"]) == ("error", 5, channel, code)
    assert not person.session.closed
    assert person.session.subscription_count == 0


def test_twice_the_same_channel_is_refused_and_so_is_leaving_one_never_taken(world: World) -> None:
    person = Person(world, principal())
    person.ask(op="subscribe", channel="order:o1")
    [twice] = person.ask(op="subscribe", id=1, channel="order:o1")
    [never] = person.ask(op="unsubscribe", id=2, channel="order:o2")
    assert (twice["error"]["code"], twice["id"]) == ("already_subscribed", 1)
    assert (never["error"]["code"], never["id"]) == ("not_subscribed", 2)
    assert person.ask(op="unsubscribe", id=3, channel="order:o1") == [
        {"op": "unsubscribed", "id": 3, "channel": "order:o1"}
    ]
    world.publish(order("o1"))
    assert person.read() == []


def test_more_channels_than_allowed_are_refused() -> None:
    world = World(limits=Limits(max_channels=2))
    person = Person(world, principal())
    for channel in ("order:o1", "plan:p1"):
        assert ops(person.ask(op="subscribe", channel=channel))[-1] == "live"
    [error] = person.ask(op="subscribe", channel="order:o3")
    assert error["error"]["code"] == "too_many_subscriptions"


def test_before_the_stream_is_known_a_subscribe_is_worth_a_retry(world: World) -> None:
    world.market.stream.is_open = False
    person = Person(world, principal())
    person.read()
    [error] = person.ask(op="subscribe", channel="order:o1")
    assert error["error"] == {
        "code": "replay_unavailable",
        "message": "this gateway has not reached the event store yet",
        "retryable": True,
        "retry_after_ms": 1000,
    }


def test_resume_is_one_subscribe_for_each_channel_short_or_long(world: World) -> None:
    world.publish(order("o1"), order("o2"), "plan.b.p1", kind="A")
    person = Person(world, principal())
    person.read()
    long = {"cursor": f"MARKET.{EPOCH}.0", "types": ["B"], "on_gap": "refuse", "presence": True}
    person.ask(op="resume", id=4, channels={"order:o1": f"MARKET.{EPOCH}.0", "order:o2": long, "plan:p1": "earliest"})
    world.loop.run()
    told = person.heard
    assert {message["channel"]: message["id"] for message in told if message["op"] == "subscribed"} == {
        "order:o1": 4,
        "order:o2": 4,
        "plan:p1": 4,
    }
    assert sorted(message["channel"] for message in told if message["op"] == "event") == ["order:o1", "plan:p1"]
    assert {message["channel"]: message["replayed"] for message in told if message["op"] == "live"} == {
        "order:o1": 1,
        "order:o2": 0,
        "plan:p1": 1,
    }


def test_one_bad_channel_of_a_resume_does_not_keep_the_others(world: World) -> None:
    person = Person(world, principal("b1", "buyer"))
    person.read()
    answers = person.ask(op="resume", id=4, channels={"buyer:b2": "earliest", "buyer:b1": "earliest"})
    assert ops(answers) == ["error", "subscribed", "live"]


def test_a_gap_is_told_after_subscribed_and_refused_with_details(world: World) -> None:
    world.publish(order("o1"))
    person = Person(world, principal())
    person.read()
    ahead, end = f"MARKET.{EPOCH}.9", f"MARKET.{EPOCH}.1"
    person.ask(op="subscribe", id=1, channel="order:o1", cursor=ahead)
    person.ask(op="subscribe", id=2, channel="order:o2", cursor=ahead, on_gap="refuse")
    world.settle()
    subscribed, gap, _, refused = person.heard
    assert subscribed["cursor"] == end
    assert gap == {"op": "gap", "channel": "order:o1", "reason": "ahead", "from": ahead, "to": end}
    assert (refused["id"], refused["error"]["code"]) == (2, "cursor_ahead")
    assert refused["error"]["details"] == {"from": ahead, "to": end}
    assert world.replica.tally.gaps == {"ahead": 1}


def test_a_stream_made_again_closes_4203_for_who_refuses_gaps(world: World) -> None:
    world.publish(order("o1"))
    person = Person(world, principal())
    person.ask(op="subscribe", channel="order:o1", on_gap="refuse")
    world.market.stream.restart("recreated", "z" * 9, 0)
    error, close = person.read()
    assert error["error"]["code"] == "cursor_recreated"
    assert (close["code"], close["reason"]) == (4203, "resync")
    world.assert_nothing_is_left()


def test_a_stream_made_again_is_a_gap_in_band_for_the_others(world: World) -> None:
    person = Person(world, principal())
    person.ask(op="subscribe", channel="order:o1")
    world.market.stream.restart("recreated", "z" * 9, 0)
    assert ops(person.read()) == ["gap"]


def test_a_replay_that_cannot_go_on_is_told_without_an_id(world: World) -> None:
    world.publish(*[order("o1")] * 3)
    world.forget_below(3)
    person = Person(world, principal())
    person.read()
    person.ask(op="subscribe", id=1, channel="order:o1", cursor="earliest")
    world.market.answer()
    world.market.answer(answer=Problem(ErrorCode.REPLAY_UNAVAILABLE))
    [_, error] = person.heard
    assert (error["id"], error["channel"], error["error"]["code"]) == (None, "order:o1", "replay_unavailable")
    assert person.ask(op="subscribe", channel="order:o1")[0]["op"] == "subscribed"


def test_an_event_in_two_channels_comes_once_for_each_in_one_write(world: World) -> None:
    person = Person(world, principal())
    person.ask(op="subscribe", channel="order:o1")
    person.ask(op="subscribe", channel="buyer:b")
    writes = len(person.sink.writes)
    world.publish(order("o1"))
    assert len(person.sink.writes) == writes + 1
    assert sorted(message["channel"] for message in person.read()) == ["buyer:b", "order:o1"]
    assert world.replica.tally.deliveries == 2


def test_types_choose_and_an_event_without_type_is_never_chosen(world: World) -> None:
    person = Person(world, principal())
    person.ask(op="subscribe", channel="order:o1", types=["A", "B"])
    for kind in ("A", "C", None, "B"):
        world.publish(order("o1"), kind=kind)
    assert [message["event"]["n"] for message in person.read()] == [1, 4]


def test_a_session_that_broke_is_cut_off(world: World) -> None:
    person = Person(world, principal())
    person.session.abandon()
    assert person.sink.aborted
    assert len(world.replica.wheel) == 0
    world.assert_nothing_is_left()


def test_an_idle_session_holds_no_parser_task_or_timer(world: World) -> None:
    person = Person(world, principal())
    held = {name: getattr(person.session, name) for kind in Session.__mro__ for name in getattr(kind, "__slots__", ())}
    assert not hasattr(person.session, "__dict__")
    assert held["_conduct"] is None
    assert held["readers"] == {}
    kinds = {type(value).__module__ for value in held.values()}
    assert kinds <= {
        "builtins",
        "functools",
        "contracts.principal",
        "tests.harness.core",
        "services.gateway.core.replica",
    }


def test_who_is_gone_is_kept_by_nobody(world: World) -> None:
    person = Person(world, principal())
    person.ask(op="subscribe", channel="order:o1")
    person.leave()
    assert len(world.replica.wheel) == 0
    world.assert_nothing_is_left()
    person.session.answer_malformed(Problem(ErrorCode.INVALID_JSON))
    assert person.ask(op="heartbeat") == []
