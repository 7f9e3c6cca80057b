"""Bytes on the wire: WebSocket frames as a server sends them (RFC 6455 §5.2) and SSE blocks (WHATWG HTML §9.2).

Server frames are unmasked, so one frame serves every connection. Decides nothing about who gets one.
"""

import json
from collections.abc import Mapping
from typing import Any

# Names that EventSource uses itself and names of our control events: no event type may pose as one.
RESERVED_EVENT_NAMES = frozenset({"error", "open", "message", "live", "gap", "position", "drain", "problem", "end"})
PING = b"\x89\x00"
SSE_PING = b": ping\n"


def text_frame(payload: bytes) -> bytes:
    """One whole text message."""
    return text_header(len(payload)) + payload


def text_header(length: int) -> bytes:
    """The header of a whole text message of `length` bytes."""
    if length < 126:
        return b"\x81%c" % length
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; `reason` is ASCII and short."""
    body = code.to_bytes(2, "big") + reason.encode()
    return b"\x88%c" % len(body) + body


def event_block(cursor: bytes, kind: str | None, payload: bytes) -> bytes:
    """An event as an SSE block; `payload` is one line."""
    if kind is None or kind in RESERVED_EVENT_NAMES:
        return b"id: %b\ndata: %b\n\n" % (cursor, payload)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, kind.encode(), payload)


def control_block(name: str, cursor: str | None, data: Mapping[str, Any]) -> bytes:
    """A control event; always with `data:`, since EventSource drops a block without one."""
    identity = f"id: {cursor}\n" if cursor is not None else ""
    return f"{identity}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def retry_block(milliseconds: int) -> bytes:
    """The reconnection time; needs its blank line."""
    return b"retry: %d\n\n" % milliseconds
