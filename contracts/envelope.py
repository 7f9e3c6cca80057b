"""The envelope: the CloudEvent around a payload, as the gateway reads it (PROTOCOL §3).

Reads the top level once and leaves `data` raw. This file decides what counts as an event at all;
whether an event fits its contract is the registry's question, asked by publishers, never here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from contracts.errors import ContractError

LARGEST_EVENT_BYTES = 256 * 1024
CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
MESSAGE_ID = "Nats-Msg-Id"
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")
# As numbers: bytes are asked for a number an order of magnitude faster than for bytes.
_LF, _CR = b"\n\r"


class NotAnEvent(ContractError):
    """The payload is not one JSON object in UTF-8 of allowed size."""


class _TopLevel(msgspec.Struct, gc=False):
    # As they come: a member of another kind makes it no other event. Members that are not named here are skipped
    # over, which proves that they are JSON.
    type: object = None
    final: object = None


_decode = msgspec.json.Decoder(_TopLevel).decode


# What the gateway needs to know of an event: its type, None where it bears none (it is delivered, and no type filter
# matches it); whether it is a plan's last event; the event on one line, ready to be spliced into a frame. A plain
# tuple, for one is made for each event.
Envelope = tuple[str | None, bool, bytes]


@dataclass(frozen=True, slots=True)
class Publication:
    """An event ready to be stored: what a publisher hands to NATS, whoever holds the connection."""

    subject: str
    headers: Mapping[str, str]
    payload: bytes
    # The stream that must take it; a publisher states it as the expected stream.
    stream: str

    @property
    def event_id(self) -> str:
        """The event's own id, by which the stream knows a repetition."""
        return self.headers[MESSAGE_ID]


def read(payload: bytes) -> Envelope:
    """Read the top level of an event.

    Raises:
        NotAnEvent: not JSON, not an object, not UTF-8, or larger than 256 KiB.
    """
    if len(payload) > LARGEST_EVENT_BYTES:
        raise NotAnEvent(f"{len(payload)} bytes are more than {LARGEST_EVENT_BYTES}")
    try:
        top = _decode(payload)
        if not payload.isascii():
            payload.decode()  # msgspec skips over strings it does not return without judging their bytes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnEvent(f"not one JSON object in UTF-8: {error}") from error
    if _LF in payload or _CR in payload:
        # Legal JSON holds a bare line break between tokens only, so a space in its place changes nothing.
        payload = payload.translate(_LINE_BREAKS)
    kind = top.type
    if not isinstance(kind, str) or "\n" in kind or "\r" in kind:
        kind = None
    return kind, top.final is True, payload
