"""What a client sends while its token is being verified is held, and acted on in order."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from contracts.wire import LARGEST_CLIENT_MESSAGE_BYTES as LARGEST
from tests.harness.core import World, ops, principal
from tests.harness.frames import Wire, cut, masked

TEXT, CLOSE, PING = Opcode.TEXT, Opcode.CLOSE, Opcode.PING
BEAT = b'{"op":"heartbeat"}'
BYE = masked(CLOSE, b"\x03\xe8bye")


def held(world: World | None = None) -> Wire:
    """A wire whose client has just sent a token that is still being verified."""
    world = world or World()
    world.verifies_at_once = False
    world.tokens["t"] = principal()
    wire = Wire(world)
    wire.feed(masked(TEXT, b'{"op":"auth","token":"t"}'))
    return wire


@given(st.lists(st.integers(0, 400), max_size=8))
def test_messages_held_for_a_token_are_acted_on_in_order(places: list[int]) -> None:
    wire = held()
    data = b"".join(masked(TEXT, b'{"op":"heartbeat","id":%d}' % number) for number in range(9)) + masked(PING, b"")
    for piece in cut(data, places):
        wire.protocol.data_received(piece)
    assert wire.read() == []
    wire.world.verify()
    told = wire.read()
    assert ops(told) == ["auth", *["heartbeat"] * 9]
    assert [message["id"] for message in told[1:]] == list(range(9))
    assert wire.kept == 0


def test_a_second_token_among_what_was_held_holds_again() -> None:
    wire = held()
    wire.feed(masked(TEXT, b'{"op":"auth","token":"t"}') + masked(TEXT, BEAT))
    wire.world.verify()
    assert ops(wire.read()) == ["auth"]
    wire.world.verify()
    assert ops(wire.read()) == ["auth", "heartbeat"]


def test_a_verifier_that_answers_at_once_holds_nothing() -> None:
    world = World()
    world.tokens["t"] = principal()
    wire = Wire(world)
    wire.feed((masked(TEXT, b'{"op":"auth","token":"t"}') + masked(TEXT, BEAT)) * 2)
    assert ops(wire.read()) == ["auth", "heartbeat"] * 2


def test_while_messages_are_held_no_more_than_a_message_and_a_read_are_kept() -> None:
    wire = held()
    wire.feed(masked(TEXT, BEAT) * 100_000, pieces=16_000)
    assert wire.transport.paused_reading
    assert wire.kept <= LARGEST + 16_000
    wire.transport.resume_reading()
    wire.protocol.data_received(b"")
    assert wire.transport.paused_reading
    wire.world.verify()
    assert wire.session.closed, "it sent too fast"
    assert not wire.transport.paused_reading


def test_a_session_that_ends_while_messages_are_held_still_finds_the_close_frame() -> None:
    wire = held()
    wire.session.drain()
    wire.feed(BYE)
    assert not wire.transport.closing
    wire.world.verify()
    assert wire.transport.closing


def test_what_was_held_is_let_go_with_the_connection() -> None:
    wire = held()
    wire.feed(masked(TEXT, BEAT))
    wire.transport.close()
    wire.protocol.connection_lost(None)
    assert wire.kept == 0
    wire.world.verify()
    wire.world.assert_nothing_is_left()


def test_a_paused_client_is_not_listened_to_again_because_its_token_was_verified() -> None:
    wire = held()
    wire.protocol.pause_writing()
    wire.world.verify()
    assert wire.transport.paused_reading
    wire.protocol.resume_writing()
    assert not wire.transport.paused_reading


def test_while_much_is_held_a_resumed_writer_reads_no_further() -> None:
    wire = held()
    wire.protocol.go_on()
    wire.protocol.go_on()
    assert not wire.protocol._held
