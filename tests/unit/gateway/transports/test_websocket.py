"""A client's bytes become messages, whatever they are and wherever they are cut."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from contracts.wire import LARGEST_CLIENT_MESSAGE_BYTES as LARGEST
from services.gateway.core.limits import Limits
from tests.harness.core import World, ops, order
from tests.harness.frames import Wire, cut, masked

TEXT, BINARY, CONT, CLOSE, PING, PONG = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.CLOSE, Opcode.PING, Opcode.PONG
BEAT = b'{"op":"heartbeat"}'
BYE = masked(CLOSE, b"\x03\xe8bye")


@dataclass
class Expected:
    """What `websockets` makes of the same bytes."""

    messages: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    frames: int = 0
    closed: bool = False
    failed: bool = False


def by_the_book(data: bytes) -> Expected:
    parser, found, parts, kind = Protocol(Side.SERVER, state=OPEN, max_size=None), Expected(), bytearray(), TEXT
    parser.receive_data(data)
    for event in parser.events_received():
        assert isinstance(event, Frame)
        found.frames += 1
        if event.opcode in (TEXT, BINARY, CONT):
            kind = event.opcode if event.opcode is not CONT else kind
            parts += event.data
            if event.fin and kind is TEXT:
                found.messages.append(bytes(parts))
            elif event.fin:
                found.refused.append("invalid_message")
            if event.fin:
                parts.clear()
        elif event.opcode is PING:
            found.pongs.append(bytes(event.data))
        elif event.opcode is CLOSE:
            found.closed = True
    found.failed = parser.parser_exc is not None
    return found


SIZES = st.sampled_from([0, 1, 5, 125, 126, 300])
BODIES = SIZES.flatmap(lambda size: st.binary(min_size=size, max_size=size))
SHORT = st.binary(max_size=125)
TEXTS = BODIES.map(lambda body: masked(TEXT, body))
CONTROLS = st.builds(masked, st.sampled_from([int(PING), int(PONG)]), SHORT)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A message in fragments, with control frames between them."""
    found, opcode = b"", draw(st.sampled_from([TEXT, TEXT, BINARY]))
    for _ in range(draw(st.integers(0, 3))):
        found += masked(opcode, draw(BODIES), fin=False) + b"".join(draw(st.lists(CONTROLS, max_size=2)))
        opcode = CONT
    return found + masked(opcode, draw(BODIES))


FAULTS = st.one_of(
    st.builds(masked, st.sampled_from([3, 7, 11, 15]), SHORT),
    st.builds(lambda body, rsv: masked(TEXT, body, rsv=rsv), BODIES, st.sampled_from([1, 2, 4])),
    st.builds(lambda body: masked(TEXT, body, mask=False), BODIES),
    st.builds(lambda body: masked(CONT, body), BODIES),
    st.builds(lambda body: masked(PING, body, fin=False), SHORT),
    st.just(masked(PING, b"x" * 126)),
    st.just(masked(CLOSE, b"\x03")),
    st.just(masked(CLOSE, b"\x03\xe8\xff")),
    st.just(masked(CLOSE, b"\x00\x01")),
    st.just(masked(TEXT, b"a", fin=False) + masked(TEXT, b"b")),
    st.just(masked(TEXT, b"a", fin=False) + BYE),
)
STREAMS = st.builds(
    lambda body, end: b"".join(body) + end,
    st.lists(st.one_of(TEXTS, TEXTS, CONTROLS, fragmented()), max_size=8),
    st.one_of(st.just(b""), st.just(BYE), st.just(masked(CLOSE, b"")), FAULTS, FAULTS.map(lambda one: one + BYE)),
)


@settings(max_examples=120)
@given(STREAMS, st.lists(st.integers(0, 4000), max_size=12))
def test_any_stream_cut_anywhere_is_read_as_websockets_reads_it(data: bytes, places: list[int]) -> None:
    wire = Wire(World(limits=Limits(malformed_per_minute=10**6)), acts=False)
    written = len(wire.transport.sink.taken)
    for piece in cut(data, places):
        if not wire.transport.closing:
            wire.protocol.data_received(piece)
    expected = by_the_book(data)
    assert wire.session.messages == expected.messages
    assert wire.session.refused == expected.refused
    assert wire.transport.closing == expected.closed
    answers = Protocol(Side.CLIENT, state=OPEN, max_size=None)
    answers.receive_data(wire.transport.sink.taken[written:])
    told = [event for event in answers.events_received() if isinstance(event, Frame)]
    assert [bytes(event.data) for event in told if event.opcode is PONG] == expected.pongs
    closes = [event for event in told if event.opcode is CLOSE]
    if expected.failed:
        assert [int.from_bytes(event.data[:2], "big") for event in closes] == [4006]
    else:
        assert len(closes) == expected.closed
        assert wire.kept <= len(data)


@pytest.mark.parametrize("pieces", [1, 3, 7, 10**6])
def test_what_is_whole_leaves_nothing_behind_it(pieces: int) -> None:
    wire = Wire(acts=False)
    parts = masked(TEXT, b"a", fin=False) + masked(PING, b"p") + masked(CONT, b"b")
    wire.feed(masked(TEXT, b"x") + parts + masked(BINARY, b"y") + masked(PONG, b""), pieces=pieces)
    assert wire.session.messages == [b"x", b"ab"]
    protocol = wire.protocol
    assert (protocol._rest, protocol._parser, protocol._message) == (None, None, None)
    assert not protocol._held
    assert not hasattr(protocol, "__dict__")


def test_every_frame_counts_as_heard() -> None:
    wire = Wire()
    for _ in range(8):
        wire.world.pass_time(10)
        wire.feed(masked(PONG, b""))
    assert not wire.session.closed
    assert wire.session.frames_heard == 8


def test_binary_is_an_invalid_message_and_the_tenth_closes() -> None:
    wire = Wire()
    wire.feed(masked(BINARY, b"x") * 10)
    assert wire.session.refused == ["invalid_message"] * 10
    assert wire.read()[-1] == {"op": "close", "code": 4001, "reason": "bad_request"}


def test_text_that_is_not_utf8_is_invalid_json() -> None:
    wire = Wire()
    wire.feed(masked(TEXT, b'{"op":"\xff"}'))
    [error] = wire.read()
    assert error["error"]["code"] == "invalid_json"


def test_after_a_fault_nothing_is_read_any_more() -> None:
    wire = Wire()
    wire.feed(masked(TEXT, BEAT, mask=False) + masked(TEXT, BEAT) + b"x" * 1000)
    wire.feed(masked(TEXT, BEAT))
    assert wire.session.messages == []
    assert wire.read() == [{"op": "close", "code": 4006, "reason": "protocol"}]
    assert wire.kept == 0


def test_the_largest_message_is_taken_and_one_byte_more_is_too_large() -> None:
    wire = Wire(acts=False)
    wire.feed(masked(TEXT, b"x" * LARGEST), pieces=10_000)
    assert [len(message) for message in wire.session.messages] == [LARGEST]
    half = masked(TEXT, b"x" * (LARGEST // 2), fin=False)
    wire.feed(half + masked(CONT, b"x" * (LARGEST // 2)))
    assert [len(message) for message in wire.session.messages] == [LARGEST] * 2
    wire.feed(masked(TEXT, b"x" * (LARGEST + 1)))
    error, close = wire.read()
    assert (error["error"]["code"], close["code"]) == ("message_too_large", 4001)


@pytest.mark.parametrize("pieces", [5000, 10**9])
@pytest.mark.parametrize(
    "large",
    [
        masked(TEXT, b"x" * (LARGEST + 1)),
        masked(BINARY, b"x" * (3 * LARGEST)),
        masked(TEXT, b"x" * 40_000, fin=False) + masked(CONT, b"x" * 40_000),
        masked(TEXT, b"x" * 40_000, fin=False) + masked(CONT, b"x" * 40_000, fin=False) + masked(CONT, b"x" * 60_000),
        masked(TEXT, b"x" * 40_000, fin=False)
        + masked(CONT, b"x" * 40_000, fin=False) * 3
        + masked(PING, b"")
        + masked(CONT, b""),
        masked(TEXT, b"x", fin=False) + masked(CONT, b"x" * 70_000) + masked(CONT, b""),
    ],
)
def test_the_clients_close_frame_is_found_behind_a_message_that_was_too_large(large: bytes, pieces: int) -> None:
    wire = Wire()
    wire.feed(large + masked(TEXT, BEAT), pieces=pieces)
    assert ops(wire.read()) == ["error", "close"]
    assert not wire.transport.is_closing()
    wire.feed(BYE)
    assert wire.transport.is_closing()
    assert wire.session.messages == []


def test_a_header_that_promises_more_than_allowed_is_refused_at_once_and_its_bytes_are_not_kept() -> None:
    wire = Wire()
    wire.feed(b"\x81\xff" + (2**63 - 1).to_bytes(8, "big"))
    assert ops(wire.read()) == ["error", "close"]
    wire.feed(b"x" * 100_000, pieces=1000)
    assert wire.kept == 0


@pytest.mark.parametrize("opcode", [PING, PONG, CONT])
def test_frames_too_small_to_be_messages_count_against_the_rate_and_close_4101(opcode: int) -> None:
    wire = Wire()
    limits = wire.world.limits
    if opcode == CONT:
        wire.feed(masked(TEXT, b"", fin=False))
    for _ in range(2 * limits.client_burst - 2):
        wire.feed(masked(opcode, b"", fin=opcode != CONT))
    assert not wire.session.closed
    wire.feed(masked(opcode, b"", fin=opcode != CONT) * 2)
    [*_, told, close] = wire.read()
    assert told["error"]["code"] == "rate_limited"
    assert told["error"]["retry_after_ms"] > 0
    assert close == {"op": "close", "code": 4101, "reason": "rate"}


def test_after_our_close_a_flood_is_not_read() -> None:
    wire = Wire()
    wire.session.drain()
    wire.feed(masked(PONG, b"") * 1000)
    assert wire.transport.paused_reading
    assert wire.kept == 0
    before = wire.session.frames_heard
    wire.feed(masked(PONG, b"") * 1000)
    assert wire.session.frames_heard == before < 100


def test_endless_empty_fragments_take_no_memory() -> None:
    wire = Wire(acts=False)
    wire.feed(masked(TEXT, b"", fin=False))
    for _ in range(200):
        wire.feed(masked(CONT, b"", fin=False) + masked(PING, b""))
        assert wire.kept == 0
    parser = wire.protocol._parser
    assert parser is not None
    assert not parser.events
    assert not parser.writes
    wire.feed(masked(CONT, BEAT))
    assert wire.session.messages == [BEAT]


def test_one_byte_at_a_time_no_more_than_a_message_is_kept() -> None:
    wire = Wire(acts=False)
    frame = masked(TEXT, b"x" * 3000)
    for place in range(len(frame)):
        assert wire.kept == place
        wire.protocol.data_received(frame[place : place + 1])
    assert wire.kept == 0


# The transport.


def test_pings_are_answered_and_not_after_our_close() -> None:
    wire = Wire()
    wire.feed(masked(PING, b"abc"))
    assert wire.transport.sink.taken.endswith(b"\x8a\x03abc")
    wire.session.drain()
    size = len(wire.transport.sink.taken)
    wire.feed(masked(PING, b"abc"))
    assert len(wire.transport.sink.taken) == size


def test_a_clients_close_is_echoed_once_and_ends_the_connection() -> None:
    wire = Wire()
    wire.feed(BYE + masked(TEXT, BEAT))
    assert wire.transport.sink.taken.endswith(b"\x88\x05\x03\xe8bye")
    assert wire.transport.closing
    assert wire.session.messages == []
    assert wire.kept == 0
    wire.world.assert_nothing_is_left()


def test_what_one_read_asks_is_answered_in_order_by_one_write_and_nothing_follows_the_close() -> None:
    wire = Wire()
    sink = wire.transport.sink
    before = len(sink.writes)
    wire.feed(masked(TEXT, BEAT) + masked(PING, b"p") + masked(TEXT, BEAT) + BYE)
    assert ops(sink.messages()) == ["heartbeat", "pong", "heartbeat", "close"]
    assert len(sink.writes) == before + 1


def test_a_client_that_answers_our_close_gets_no_second_one() -> None:
    wire = Wire()
    wire.session.drain()
    size = len(wire.transport.sink.taken)
    wire.feed(masked(CLOSE, b"\x10\x68"))
    assert len(wire.transport.sink.taken) == size
    assert wire.transport.closing


def test_backpressure_stops_writing_and_reading_and_both_go_on_again() -> None:
    wire = Wire()
    wire.feed(masked(TEXT, b'{"op":"subscribe","channel":"order:o1"}'))
    assert wire.transport.limits == (1000, 250)
    wire.protocol.pause_writing()
    was_paused = wire.transport.paused_reading
    wire.world.publish(order("o1"))
    assert "event" not in ops(wire.read())
    wire.protocol.resume_writing()
    wire.world.loop.run()
    assert (was_paused, wire.transport.paused_reading) == (True, False)
    assert ops(wire.read()) == ["event"]


def test_a_transport_that_is_closing_is_neither_stopped_nor_started() -> None:
    wire = Wire()
    wire.session.drain()
    wire.transport.closing = True
    wire.protocol.pause_writing()
    wire.transport.paused_reading = True
    wire.protocol.resume_writing()
    assert wire.transport.paused_reading
    assert not wire.world.loop.due


def test_a_lost_connection_leaves_nothing_behind() -> None:
    wire = Wire()
    wire.feed(masked(TEXT, b'{"op":"subscribe","channel":"order:o1"}') + masked(TEXT, b"a", fin=False) + b"\x81")
    wire.protocol.eof_received()
    home = wire.protocol.home
    wire.protocol.connection_lost(ConnectionResetError())
    assert wire.kept == 0
    assert home == set()
    assert len(wire.world.replica.wheel) == 0
    wire.world.assert_nothing_is_left()


def test_who_does_not_answer_the_close_is_cut_off() -> None:
    wire = Wire()
    wire.protocol.shutdown()
    assert ops(wire.read()) == ["drain", "close"]
    wire.world.pass_time(6)
    assert wire.transport.aborted


def test_what_is_unsent_is_what_the_transport_holds() -> None:
    wire = Wire()
    assert isinstance(wire.protocol, asyncio.Protocol)
    assert wire.protocol.unsent() == wire.transport.sink.waiting > 0
