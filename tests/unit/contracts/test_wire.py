import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import wire
from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem
from contracts.wire import Auth, Heartbeat, InvalidClientMessage, Resume, ResumeFrom, Subscribe, Unsubscribe, parse

AT = Cursor("MARKET", "0mi7c3k9x", 42)


def refusal(text: bytes) -> InvalidClientMessage:
    with pytest.raises(InvalidClientMessage) as refused:
        parse(text)
    return refused.value


def told(message: bytes) -> Any:
    assert b"\n" not in message
    return json.loads(message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"op":"auth","token":"t"}', Auth("t")),
        ('{"op":"subscribe","id":1,"channel":"order:o1"}', Subscribe("order:o1", 1)),
        (
            '{"op":"subscribe","id":"a","channel":"c","cursor":"earliest","types":["A"],"on_gap":"refuse","presence":true}',
            Subscribe("c", "a", "earliest", types=("A",), on_gap="refuse", presence=True),
        ),
        ('{"op":"subscribe","channel":"c","last":1000}', Subscribe("c", last=1000)),
        (
            '{"op":"subscribe","channel":"c","since":"2026-11-20T10:00:00Z"}',
            Subscribe("c", since="2026-11-20T10:00:00Z"),
        ),
        ('{"op":"unsubscribe","channel":"c"}', Unsubscribe("c")),
        ('{"op":"heartbeat","id":7}', Heartbeat(7)),
        ('{"op":"heartbeat","id":"für später"}', Heartbeat("für später")),
        ('{"op":"heartbeat","extra":{"is":"ignored"}}', Heartbeat()),
    ],
)
def test_each_op_is_read(text: str, expected: wire.ClientMessage) -> None:
    assert parse(text.encode()) == expected


def test_a_resume_is_one_subscribe_for_each_channel_in_the_order_given() -> None:
    message = parse(
        b'{"op":"resume","id":9,"channels":{"order:o1":"M.1.1",'
        b'"plan:p1":{"cursor":"P.1.2","types":["PLAN_ERROR"],"on_gap":"refuse","presence":true}}}'
    )
    assert message == Resume({"order:o1": "M.1.1", "plan:p1": ResumeFrom("P.1.2", ("PLAN_ERROR",), "refuse", True)}, 9)
    assert isinstance(message, Resume)
    assert message.subscribes() == [
        Subscribe("order:o1", 9, "M.1.1"),
        Subscribe("plan:p1", 9, "P.1.2", types=("PLAN_ERROR",), on_gap="refuse", presence=True),
    ]


@pytest.mark.parametrize(
    "text", [b"", b"{", b"NaN", b'{"op":"\xff"}', b'{"op":"auth"} x', b"[" * 5000, b'{"a":"\xff"}']
)
def test_what_is_no_json_is_told_so(text: bytes) -> None:
    found = refusal(text)
    assert (found.problem.code, found.message_id) == (ErrorCode.INVALID_JSON, None)


@pytest.mark.parametrize("text", [b"[]", b"1", b'"op"', b"null"])
def test_what_is_no_object_is_no_message(text: bytes) -> None:
    assert refusal(text).problem.code is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize("message_id", ["true", "1.5", "[]", "{}"])
def test_an_id_is_a_string_or_an_integer(message_id: str) -> None:
    found = refusal(f'{{"op":"heartbeat","id":{message_id}}}'.encode())
    assert (found.problem.code, found.message_id) == (ErrorCode.INVALID_MESSAGE, None)


@pytest.mark.parametrize("op", ["", '"op":null,', '"op":5,'])
def test_a_message_without_op_is_refused_with_its_id(op: str) -> None:
    found = refusal(f'{{{op}"id":"m1"}}'.encode())
    assert (found.problem.code, found.message_id) == (ErrorCode.INVALID_MESSAGE, "m1")


def test_an_unknown_op_is_told_with_those_there_are() -> None:
    found = refusal(b'{"op":"publish","id":3}')
    assert (found.problem.code, found.message_id) == (ErrorCode.UNKNOWN_OP, 3)
    assert "subscribe" in found.problem.text


@pytest.mark.parametrize(
    "rest",
    [
        "",
        ',"channel":5',
        ',"channel":"c","last":0',
        ',"channel":"c","last":1001',
        ',"channel":"c","last":true',
        ',"channel":"c","types":[]',
        ',"channel":"c","types":"A"',
        ',"channel":"c","on_gap":"ignore"',
        ',"channel":"c","presence":1',
        ',"channel":"c","cursor":"x","last":5',
        ',"channel":"c","cursor":"x","since":"y"',
        ',"channel":"c","since":"y","last":5',
    ],
)
def test_a_subscribe_that_does_not_fit_is_refused_with_its_id(rest: str) -> None:
    found = refusal(f'{{"op":"subscribe","id":4{rest}}}'.encode())
    assert (found.problem.code, found.message_id) == (ErrorCode.INVALID_MESSAGE, 4)


@pytest.mark.parametrize("op", ['"presence","action":"enter"', '"signal","kind":"typing"'])
@pytest.mark.parametrize(
    ("most", "beyond"),
    [
        (json.dumps("x" * 1022), json.dumps("x" * 1023)),
        (json.dumps("é" * 511), json.dumps("é" * 512)),  # bytes count, and as they are sent on
        ("[" * 32 + "]" * 32, "[" * 33 + "]" * 33),
        ('{"a":[' * 16 + "]}" * 16, '{"a":[' * 16 + "{}" + "]}" * 16),
    ],
    ids=["size", "bytes", "lists", "objects"],
)
def test_data_of_presence_and_signals_has_a_size_and_a_depth(op: str, most: str, beyond: str) -> None:
    parse(f'{{"op":{op},"id":4,"channel":"c","data":{most}}}'.encode())
    found = refusal(f'{{"op":{op},"id":4,"channel":"c","data":{beyond}}}'.encode())
    assert (found.problem.code, found.message_id) == (ErrorCode.INVALID_MESSAGE, 4)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_whatever_a_client_sends_is_read_or_refused_and_nothing_else(text: bytes) -> None:
    with contextlib.suppress(InvalidClientMessage):
        parse(text)


def test_a_refusal_quotes_a_bounded_part_of_what_was_sent() -> None:
    assert len(refusal(b'{"op":"' + b"x" * 60_000 + b'"}').problem.text) < 200


def test_the_gateways_messages_are_those_of_the_protocol() -> None:
    assert told(wire.welcome("c1", "buyer_ada", "buyer", "local", 25, {"max_channels": 128})) == {
        "op": "welcome",
        "connection_id": "c1",
        "protocol": 1,
        "principal": {"sub": "buyer_ada", "role": "buyer"},
        "region": "local",
        "heartbeat_s": 25,
        "limits": {"max_channels": 128},
    }
    assert told(wire.authenticated(5)) == {"op": "auth", "id": 5}
    assert told(wire.authenticated(None)) == {"op": "auth"}
    assert told(wire.subscribed("a", "order:o1", AT)) == {
        "op": "subscribed",
        "id": "a",
        "channel": "order:o1",
        "stream": "MARKET",
        "cursor": str(AT),
    }
    assert told(wire.unsubscribed(0, "order:o1")) == {"op": "unsubscribed", "id": 0, "channel": "order:o1"}
    assert told(wire.live("order:o1", AT, 0)) == {"op": "live", "channel": "order:o1", "cursor": str(AT), "replayed": 0}
    assert told(wire.gap("order:o1", "expired", "MARKET.0.1", AT)) == {
        "op": "gap",
        "channel": "order:o1",
        "reason": "expired",
        "from": "MARKET.0.1",
        "to": str(AT),
    }
    assert told(wire.heartbeat({"MARKET": str(AT)})) == {"op": "heartbeat", "cursors": {"MARKET": str(AT)}}
    assert told(wire.heartbeat({}, "h")) == {"op": "heartbeat", "id": "h", "cursors": {}}
    assert told(wire.drain(2000)) == {"op": "drain", "reconnect_in_ms": 2000}


def test_an_error_bears_the_id_it_answers_or_null() -> None:
    problem = Problem(ErrorCode.RATE_LIMITED, retry_after_ms=500, details={"limit": 20})
    body = {
        "code": "rate_limited",
        "message": ErrorCode.RATE_LIMITED.message,
        "retryable": True,
        "retry_after_ms": 500,
        "details": {"limit": 20},
    }
    assert told(wire.error(problem)) == {"op": "error", "id": None, "error": body}
    assert told(wire.error(problem, 3, "order:o1")) == {"op": "error", "id": 3, "channel": "order:o1", "error": body}


def test_an_event_message_is_spliced_from_its_prefix() -> None:
    assert wire.event_prefix("order:o1") == b'{"op":"event","channel":"order:o1","cursor":"'


@pytest.mark.parametrize(
    "sent",
    [
        wire.welcome("c1", "buyer_ada", "buyer", "local", 25, {"max_channels": 128, "client_rate": 0.5}, "w"),
        wire.authenticated(0),
        wire.subscribed("a", "order:o1", AT),
        wire.unsubscribed(None, "order:o1"),
        wire.live("order:o1", AT, 7),
        wire.gap("order:o1", "ahead", "MARKET.0.1", AT),
        wire.heartbeat({"MARKET": str(AT)}, 1),
        wire.drain(2000),
        wire.error(Problem(ErrorCode.INTERNAL)),
        wire.error(Problem(ErrorCode.RATE_LIMITED, retry_after_ms=500, details={"limit": 20}), 3, "order:o1"),
        wire.event_prefix("order:o1") + b'MARKET.0.1","event":{"id":"e"}}',
    ],
)
def test_each_message_of_the_gateway_is_one_of_those_it_is_described_by_and_opens_with_its_op(sent: bytes) -> None:
    assert sent.startswith(b'{"op":"')
    kinds = [kind for kind in wire.GATEWAY_MESSAGES if kind.__struct_config__.tag == told(sent)["op"]]
    assert any(told(msgspec.json.encode(read)) == told(sent) for kind in kinds if (read := _read(sent, kind)))


def _read(sent: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
    try:
        return msgspec.json.decode(sent, type=kind)
    except msgspec.ValidationError:
        return None
