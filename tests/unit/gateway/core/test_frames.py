import json

import pytest
from websockets.frames import Close, Frame, Opcode

from services.gateway.core import frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 300_000])
def test_a_text_frame_is_what_the_rfc_says(size: int) -> None:
    payload = b"x" * size
    assert frames.text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_close_and_ping_frames_are_what_the_rfc_says() -> None:
    assert frames.close_frame(4102, "too_slow") == Frame(Opcode.CLOSE, Close(4102, "too_slow").serialize()).serialize(
        mask=False
    )
    assert Frame(Opcode.PING, b"").serialize(mask=False) == frames.PING


def test_an_event_is_a_block_of_its_cursor_its_type_and_one_line() -> None:
    assert frames.event_block(b"M.e.1", "ORDER_CREATED", b"{}") == b"id: M.e.1\nevent: ORDER_CREATED\ndata: {}\n\n"
    assert frames.event_block(b"M.e.1", None, b"{}") == b"id: M.e.1\ndata: {}\n\n"


@pytest.mark.parametrize("name", ["error", "open", "message", "live", "gap", "position", "drain", "problem", "end"])
def test_no_event_poses_as_a_control_event_or_as_eventsources_own(name: str) -> None:
    assert b"event:" not in frames.event_block(b"M.e.1", name, b"{}")


def test_a_control_event_always_bears_data() -> None:
    assert frames.control_block("end", None, {}) == b"event: end\ndata: {}\n\n"
    block = frames.control_block("gap", "M.e.3", {"reason": "a\nb"})
    lines = block.decode().split("\n")
    assert lines[:2] == ["id: M.e.3", "event: gap"]
    assert json.loads(lines[2].removeprefix("data: ")) == {"reason": "a\nb"}


def test_a_reconnection_time_has_its_blank_line() -> None:
    assert frames.retry_block(2000) == b"retry: 2000\n\n"
