"""The messages of the WebSocket protocol, both ways (PROTOCOL §5).

Client messages are read into one frozen struct per op; gateway messages are built here as bytes.
This file decides their form; what they cause is the session's business.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from contracts import presence
from contracts.cursor import Cursor
from contracts.errors import ContractError, ErrorCode, Problem

PROTOCOL_VERSION = 1
LARGEST_CLIENT_MESSAGE_BYTES = 64 * 1024

MessageId = str | int | None
OnGap = Literal["notify", "refuse"]
GapReason = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["expired", "recreated", "ahead"]})]
EventTypes = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=64)]


class InvalidClientMessage(ContractError):
    """A client message that cannot be acted on; carries what to answer."""

    def __init__(self, problem: Problem, message_id: MessageId = None) -> None:
        super().__init__(problem.text)
        self.problem = problem
        self.message_id = message_id


class Auth(msgspec.Struct, frozen=True, tag_field="op", tag="auth"):
    """The token: as the first message where none came with the handshake, or to refresh it in place."""

    token: str
    id: MessageId = None


class Subscribe(msgspec.Struct, frozen=True, tag_field="op", tag="subscribe"):
    """Deliver this channel from a cursor, a moment, the last n events, or from now on."""

    channel: str
    id: MessageId = None
    cursor: str | None = None
    since: str | None = None
    last: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    types: EventTypes | None = None
    on_gap: OnGap = "notify"
    presence: bool = False


class ResumeFrom(msgspec.Struct, frozen=True):
    """The long form of a value in `resume`'s `channels`."""

    cursor: str
    types: EventTypes | None = None
    on_gap: OnGap = "notify"
    presence: bool = False


class Resume(msgspec.Struct, frozen=True, tag_field="op", tag="resume"):
    """As one subscribe for each channel, from its cursor."""

    channels: dict[str, str | ResumeFrom]
    id: MessageId = None

    def subscribes(self) -> list[Subscribe]:
        """One subscribe for each channel, in the order given."""
        found = []
        for channel, start in self.channels.items():
            if isinstance(start, str):
                start = ResumeFrom(start)
            found.append(
                Subscribe(
                    channel, self.id, start.cursor, types=start.types, on_gap=start.on_gap, presence=start.presence
                )
            )
        return found


class Unsubscribe(msgspec.Struct, frozen=True, tag_field="op", tag="unsubscribe"):
    """No more of this channel."""

    channel: str
    id: MessageId = None


class Heartbeat(msgspec.Struct, frozen=True, tag_field="op", tag="heartbeat"):
    """Asks for the cursors, and shows that the client is there."""

    id: MessageId = None


ClientMessage = Auth | Subscribe | Resume | Unsubscribe | Heartbeat | presence.Presence | presence.Signal
_OPS: Mapping[str, type[ClientMessage]] = {
    "auth": Auth,
    "subscribe": Subscribe,
    "resume": Resume,
    "unsubscribe": Unsubscribe,
    "heartbeat": Heartbeat,
    "presence": presence.Presence,
    "signal": presence.Signal,
}


def parse(text: bytes) -> ClientMessage:
    """Read one client message.

    Raises:
        InvalidClientMessage: with `invalid_json`, `invalid_message` or `unknown_op`, with the message's id if any.
    """
    try:
        document = msgspec.json.decode(text)
        if not text.isascii():
            text.decode()  # see contracts.envelope.read
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidClientMessage(Problem(ErrorCode.INVALID_JSON, str(error)[:200])) from error
    if not isinstance(document, dict):
        raise InvalidClientMessage(Problem(ErrorCode.INVALID_MESSAGE, "a message is a JSON object"))
    message_id = document.get("id")
    if message_id is not None and (not isinstance(message_id, (str, int)) or isinstance(message_id, bool)):
        raise InvalidClientMessage(Problem(ErrorCode.INVALID_MESSAGE, "id is a string or an integer"))
    op = document.get("op")
    if not isinstance(op, str):
        raise InvalidClientMessage(Problem(ErrorCode.INVALID_MESSAGE, "op is missing or not a string"), message_id)
    kind = _OPS.get(op)
    if kind is None:
        known = ", ".join(_OPS)
        raise InvalidClientMessage(Problem(ErrorCode.UNKNOWN_OP, f"op {op[:40]!r} is not one of {known}"), message_id)
    try:
        message = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise InvalidClientMessage(Problem(ErrorCode.INVALID_MESSAGE, f"{op}: {error}"[:300]), message_id) from error
    fault = _fault_of(message)
    if fault is not None:
        raise InvalidClientMessage(Problem(ErrorCode.INVALID_MESSAGE, fault), message_id)
    return message


def _fault_of(message: ClientMessage) -> str | None:
    """What no type says of a message and is wrong with it."""
    if isinstance(message, Subscribe) and sum(x is not None for x in (message.cursor, message.since, message.last)) > 1:
        return "subscribe takes at most one of cursor, since and last"
    if isinstance(message, (presence.Presence, presence.Signal)):
        size = presence.size_of(message.data)
        if size > presence.MOST_DATA_BYTES:
            return f"data has at most {presence.MOST_DATA_BYTES} bytes of JSON, this has {size}"
        if presence.is_too_deep(message.data):
            return f"data is nested {presence.DEEPEST_DATA} deep at most"
    return None


class _Identified(msgspec.Struct):
    id: MessageId = None


_identify = msgspec.json.Decoder(_Identified).decode


def id_of(text: bytes) -> MessageId:
    """The id of a message that is not acted on, so that its refusal can repeat it; None where it has none to repeat."""
    try:
        return _identify(text).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="op"):
    """What the gateway sends; a field left at its default is not sent."""


class PrincipalBody(msgspec.Struct, frozen=True):
    sub: str
    role: str


class Welcome(_Message, frozen=True, kw_only=True, tag="welcome"):
    """The first message after authentication."""

    id: MessageId = None
    connection_id: str
    protocol: int
    principal: PrincipalBody
    region: str
    heartbeat_s: float
    limits: Mapping[str, int | float]


class Authenticated(_Message, frozen=True, kw_only=True, tag="auth"):
    """The answer to a token refreshed in place."""

    id: MessageId = None


class Subscribed(_Message, frozen=True, kw_only=True, tag="subscribed"):
    """Delivery begins after `cursor`."""

    id: MessageId = None
    channel: str
    stream: str
    cursor: str


class Unsubscribed(_Message, frozen=True, kw_only=True, tag="unsubscribed"):
    """No more of this channel follows."""

    id: MessageId = None
    channel: str


class Delivery(_Message, frozen=True, kw_only=True, tag="event"):
    """One event of one channel; the cursor is the place after it. Sent spliced from bytes, see `event_prefix`."""

    channel: str
    cursor: str
    event: dict[str, Any]


class Live(_Message, frozen=True, kw_only=True, tag="live"):
    """The replay has joined the live tail."""

    channel: str
    cursor: str
    replayed: int


class Gap(_Message, frozen=True, kw_only=True, tag="gap"):
    """Events in (from, to] may be missing; delivery goes on after `to`."""

    channel: str
    reason: GapReason
    start: str = msgspec.field(name="from")
    to: str


class HeartbeatAnswer(_Message, frozen=True, kw_only=True, tag="heartbeat"):
    """The least cursor written of each stream whose channels are all live."""

    id: MessageId = None
    cursors: Mapping[str, str]


class Drain(_Message, frozen=True, kw_only=True, tag="drain"):
    """The gateway is about to leave; reconnect in this many milliseconds."""

    reconnect_in_ms: int


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    details: Mapping[str, Any] = {}


class Error(_Message, frozen=True, kw_only=True, tag="error"):
    """What went wrong; `id` is null where no message is answered."""

    id: MessageId
    channel: str | None = None
    error: ErrorBody


GATEWAY_MESSAGES: tuple[type[msgspec.Struct], ...] = (
    Welcome, Authenticated, Subscribed, Unsubscribed, Delivery, Live, Gap, HeartbeatAnswer, presence.PresenceAnswer,
    presence.PresenceMembers, presence.PresenceChange, presence.SignalTold, Drain, Error,
)  # fmt: skip
CLIENT_MESSAGES: tuple[type[msgspec.Struct], ...] = tuple(_OPS.values())


# What an event stream (SSE) tells beside events, as the `data` of its named events (PROTOCOL §6).


class StreamLive(msgspec.Struct, frozen=True):
    """The replay has joined the live tail."""

    replayed: int


class StreamGap(msgspec.Struct, frozen=True):
    """Events in (from, to] may be missing; delivery goes on after `to`."""

    reason: GapReason
    start: str = msgspec.field(name="from")
    to: str


class StreamPosition(msgspec.Struct, frozen=True):
    """Nothing came for a while: the block's id is the present cursor."""


class StreamDrain(msgspec.Struct, frozen=True):
    """The gateway is about to leave; reconnect in this many milliseconds."""

    reconnect_in_ms: int


class StreamEnd(msgspec.Struct, frozen=True):
    """Every channel of the stream has ended; nothing follows."""


STREAM_EVENTS: Mapping[str, type[msgspec.Struct]] = {
    "live": StreamLive,
    "gap": StreamGap,
    "position": StreamPosition,
    "drain": StreamDrain,
    "problem": ErrorBody,
    "end": StreamEnd,
}

_encode = msgspec.json.Encoder().encode


def welcome(
    connection_id: str,
    sub: str,
    role: str,
    region: str,
    heartbeat_seconds: float,
    limits: Mapping[str, int | float],
    message_id: MessageId = None,
) -> bytes:
    """The first message after authentication."""
    return _encode(
        Welcome(
            id=message_id,
            connection_id=connection_id,
            protocol=PROTOCOL_VERSION,
            principal=PrincipalBody(sub, role),
            region=region,
            heartbeat_s=heartbeat_seconds,
            limits=limits,
        )
    )


def authenticated(message_id: MessageId) -> bytes:
    """The answer to a token refreshed in place."""
    return _encode(Authenticated(id=message_id))


def subscribed(message_id: MessageId, channel: str, cursor: Cursor) -> bytes:
    """Delivery begins after `cursor`."""
    return _encode(Subscribed(id=message_id, channel=channel, stream=cursor.stream, cursor=str(cursor)))


def unsubscribed(message_id: MessageId, channel: str) -> bytes:
    """No more of this channel follows."""
    return _encode(Unsubscribed(id=message_id, channel=channel))


def live(channel: str, cursor: Cursor, replayed: int) -> bytes:
    """The replay has joined the live tail."""
    return _encode(Live(channel=channel, cursor=str(cursor), replayed=replayed))


def gap(channel: str, reason: str, start: str, to: Cursor) -> bytes:
    """Events in (from, to] may be missing; delivery goes on after `to`."""
    return _encode(Gap(channel=channel, reason=reason, start=start, to=str(to)))


def heartbeat(cursors: Mapping[str, str], message_id: MessageId = None) -> bytes:
    """The least cursor written of each stream whose channels are all live."""
    return _encode(HeartbeatAnswer(id=message_id, cursors=cursors))


def drain(reconnect_in_ms: int) -> bytes:
    """The gateway is about to leave; reconnect in this many milliseconds."""
    return _encode(Drain(reconnect_in_ms=reconnect_in_ms))


def error(problem: Problem, message_id: MessageId = None, channel: str | None = None) -> bytes:
    """An error answer (PROTOCOL §8); `id` is null where no message is answered."""
    body = ErrorBody(problem.code.wire, problem.text, problem.may_retry, problem.retry_after_ms, problem.details)
    return _encode(Error(id=message_id, channel=channel, error=body))


@lru_cache(maxsize=16_384)
def event_prefix(channel: str) -> bytes:
    """What precedes the cursor's sequence in an event message of `channel`; the channel's grammar needs no escaping."""
    return b'{"op":"event","channel":"%b","cursor":"' % channel.encode()
