"""Presence and signals: what clients say and are told, and what gateways tell each other (PROTOCOL §5, §9).

This file decides the form of both: the messages of the WebSocket protocol, the keys and values of the bucket
PRESENCE, and the subject under which a signal crosses the fleet. What they cause is the gateway's business.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec

MOST_DATA_BYTES = 1024
DEEPEST_DATA = 32
"""How deep `data` may be nested: what another client says must break nobody's parser."""
# A page of members, in the bucket as on the wire, has this many at most.
PAGE_MEMBERS = 256

LEASE_KEY = "lease"
MEMBERS_KEY = "m"
SIGNAL_SUBJECT = "gateway.signal"

MessageId = str | int | None
Action = Literal["enter", "update", "leave"]
SignalKind = Literal["typing", "status"]

_encode = msgspec.json.Encoder().encode
NULL = msgspec.Raw(b"null")
# Unix milliseconds that can be reckoned with, in every language.
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class NotPresence(ValueError):
    """What came from another gateway is no page and no signal; the message says why."""


# What a client says.


class Presence(msgspec.Struct, frozen=True, tag_field="op", tag="presence"):
    """Be seen in a channel, with up to 1 KiB of data; change the data; or be seen no more."""

    channel: str
    action: Action
    id: MessageId = None
    data: Any = None


class Signal(msgspec.Struct, frozen=True, tag_field="op", tag="signal"):
    """Tell the others in a channel something that is true for five seconds and kept nowhere."""

    channel: str
    kind: SignalKind
    id: MessageId = None
    data: Any = None


# What a gateway tells.


class MemberBody(msgspec.Struct, frozen=True):
    sub: str
    role: str
    data: msgspec.Raw


class PresenceAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="presence"):
    """The answer to a client's `presence`."""

    id: MessageId = None
    channel: str


class PresenceMembers(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="presence"):
    """Who is there; the first message takes the place of all that was told before, `more` says that others follow."""

    channel: str
    members: tuple[MemberBody, ...]
    more: bool = False


class PresenceChange(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="presence"):
    """Who has come, gone, or changed its data."""

    channel: str
    joins: tuple[MemberBody, ...] = ()
    leaves: tuple[MemberBody, ...] = ()
    updates: tuple[MemberBody, ...] = ()


class SignalTold(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="signal"):
    """Another client's signal; a receiver forgets it after five seconds."""

    channel: str
    sender: "Sender" = msgspec.field(name="from")
    kind: SignalKind
    data: msgspec.Raw


class Sender(msgspec.Struct, frozen=True):
    sub: str
    role: str


class MembersPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of a channel's members over HTTP; `next` is the `after` of the page that follows, if one does."""

    members: tuple[MemberBody, ...]
    next: str | None = None


def members_page(found: Iterable["Member"], following: str | None) -> bytes:
    """A page of who is there, over HTTP."""
    return _encode(MembersPage(_bodies(found), following))


def answer(message_id: MessageId, channel: str) -> bytes:
    """The answer to a client's `presence`."""
    return _encode(PresenceAnswer(id=message_id, channel=channel))


def members(channel: str, found: Iterable["Member"], *, more: bool) -> bytes:
    """One page of who is there."""
    return _encode(PresenceMembers(channel=channel, members=_bodies(found), more=more))


def change(channel: str, joins: Iterable["Member"], leaves: Iterable["Member"], updates: Iterable["Member"]) -> bytes:
    """What has changed since."""
    told = PresenceChange(channel=channel, joins=_bodies(joins), leaves=_bodies(leaves), updates=_bodies(updates))
    return _encode(told)


def signal(channel: str, note: "Note") -> bytes:
    """A signal as its receivers get it."""
    told = SignalTold(channel=channel, sender=Sender(note.sub, note.role), kind=note.kind, data=note.data)
    return _encode(told)


def data_of(value: object) -> msgspec.Raw:
    """A message's `data` as the bytes that are kept and sent."""
    return NULL if value is None else msgspec.Raw(_encode(value))


def size_of(value: object) -> int:
    """How many bytes of JSON `data` has."""
    return len(_encode(value))


def is_too_deep(value: object) -> bool:
    """Whether `data` is nested deeper than is taken."""
    layer, depth = [value], 0
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        depth += 1
        if depth > DEEPEST_DATA:
            return True
        layer = [child for one in layer for child in (one.values() if isinstance(one, dict) else one)]
    return False


def _bodies(found: Iterable["Member"]) -> tuple[MemberBody, ...]:
    return tuple(MemberBody(one.sub, one.role, one.data) for one in found)


# What gateways tell each other.


class Member(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """One principal in one channel, however many connections it has there."""

    sub: str
    role: str
    # When its data was given, Unix milliseconds: of several, the latest holds.
    at: Moment
    data: msgspec.Raw

    @property
    def key(self) -> tuple[str, str]:
        """Whom it is: an id of another role is another principal."""
        return self.sub, self.role

    def says_the_same(self, other: "Member") -> bool:
        """Whether their data is equal."""
        return bytes(self.data) == bytes(other.data)


class Note(msgspec.Struct, frozen=True, array_like=True):
    """A signal on its way from gateway to gateway."""

    sub: str
    role: str
    kind: SignalKind
    # When it was sent, Unix milliseconds.
    at: Moment
    data: msgspec.Raw


_page = msgspec.json.Decoder(list[Member])
_note = msgspec.json.Decoder(Note)
_Found = TypeVar("_Found")


def encode_page(found: Iterable[Member]) -> bytes:
    """A page's value in the bucket."""
    return _encode(list(found))


def decode_page(value: bytes) -> list[Member]:
    """The members of a page.

    Raises:
        NotPresence: it is none.
    """
    # Copied out, or each member would keep the whole page in memory for as long as it stays.
    return [Member(one.sub, one.role, one.at, one.data.copy()) for one in _decoded(_page, value)]


def encode_note(note: Note) -> bytes:
    """A signal's payload."""
    return _encode(note)


def decode_note(payload: bytes) -> Note:
    """The signal of a payload.

    Raises:
        NotPresence: it is none.
    """
    return _decoded(_note, payload)


def _decoded(decoder: msgspec.json.Decoder[_Found], value: bytes) -> _Found:
    try:
        value.decode()  # `data` is not looked into, and goes to clients as it came
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotPresence(str(error)) from error


def page_key(channel: str, replica: str, page: int) -> str:
    """The key of a page: `m.<kind>.<id>.<replica>.<page>`; ids hold no dot."""
    kind, _, channel_id = channel.partition(":")
    return f"{MEMBERS_KEY}.{kind}.{channel_id}.{replica}.{page}"


def lease_key(replica: str) -> str:
    """The key of a replica's lease."""
    return f"{LEASE_KEY}.{replica}"


def signal_subject(channel: str, replica: str) -> str:
    """Where a replica publishes a signal of a channel."""
    kind, _, channel_id = channel.partition(":")
    return f"{SIGNAL_SUBJECT}.{kind}.{channel_id}.{replica}"
