"""Fan-out: an event meets its subscribers by a handful of dictionary look-ups, one for each of its keys.

However many channels and connections there are, an event costs its keys, and a connection costs
one write for all that a batch brings it. Only live subscriptions are here; who is replaying reads
pages until it joins.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from contracts.channels import channel_of
from services.gateway.core.log import Entry, frames_of

if TYPE_CHECKING:
    from services.gateway.core.subscription import Reader, Subscription

Types = frozenset[str] | None
Name = TypeVar("Name")

# How much a connection is given of a channel in one step, before others have their turn.
STEP_BYTES = 64 * 1024
# Sets of keys whose groups are remembered. Emptied when full.
_MOST_MET = 16_384


class Part(Struct, eq=False, gc=False):
    """Events of one channel, to be written to one or many connections; the bytes are joined once for all."""

    channel: str
    entries: list[Entry]
    # Bytes of the events, as far as they were counted.
    size: int = 0
    # Whether all who get these events get them with this part: then nobody asks for their single frames.
    is_for_all: bool = False
    _frames: bytes | None = None
    _blocks: bytes | None = None

    @property
    def frames(self) -> bytes:
        """All of them as WebSocket frames."""
        if self._frames is None:
            if self.is_for_all:
                self._frames = frames_of(self.channel, self.entries)
            else:
                self._frames = b"".join([entry.frame(self.channel) for entry in self.entries])
        return self._frames

    @property
    def blocks(self) -> bytes:
        """All of them as SSE blocks."""
        if self._blocks is None:
            self._blocks = b"".join([entry.block() for entry in self.entries])
        return self._blocks


class Pieces:
    """The steps of replays that were made lately, for those who come with the same cursor; bounded in number.

    A step has a bound in bytes, and so does the page that it is of.
    """

    _MOST = 32

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Part, int]] = {}

    def get(self, asked: Hashable) -> tuple[Part, int] | None:
        """The step that was made for `asked`, and where it ends."""
        return self._made.get(asked)

    def keep(self, asked: Hashable, made: tuple[Part, int]) -> None:
        """Remember a step; the oldest is forgotten."""
        if len(self._made) >= self._MOST:
            del self._made[next(iter(self._made))]
        self._made[asked] = made


class _Group:
    """Live subscriptions that get exactly the same events of one channel."""

    __slots__ = ("channel", "members")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.members: dict[Subscription, None] = {}


class Fanout:
    """The live subscriptions of one stream, by routing key and type filter."""

    def __init__(self) -> None:
        # By key: those who get every event, and those who filter by type; most channels have the first alone.
        self._all: dict[str, _Group] = {}
        self._filtered: dict[str, dict[frozenset[str], _Group]] = {}
        # By channel: the keys under which it is narrowed; signals go to a channel, whatever its keys are.
        self._narrowed: dict[str, tuple[str, ...]] = {}
        # The keys of an event -> the groups in `_all` that get it. The events of an aggregate share their keys, so
        # each event after the first is one look-up; forgotten whenever a group comes or goes.
        self._met: dict[tuple[str, ...], list[_Group]] = {}

    def __len__(self) -> int:
        return len(self._all.keys() | self._filtered.keys())

    def join(self, key: str, channel: str, types: Types, subscription: "Subscription") -> None:
        """From the next batch on, `subscription` gets what bears `key`."""
        group = self._all.get(key) if types is None else self._filtered.get(key, {}).get(types)
        if group is None:
            group = _Group(channel)
            if types is None:
                self._all[key] = group
                self._met.clear()
            else:
                self._filtered.setdefault(key, {})[types] = group
        group.members[subscription] = None
        if key != channel:
            known = self._narrowed.get(channel, ())
            if key not in known:
                self._narrowed[channel] = (*known, key)

    def leave(self, key: str, types: Types, subscription: "Subscription") -> None:
        """Nothing more for `subscription`; harmless where it had not joined."""
        if types is None:
            _leave(self._all, key, subscription)
            if key not in self._all:
                self._met.clear()
        elif (by_types := self._filtered.get(key)) is not None:
            _leave(by_types, types, subscription)
            if not by_types:
                del self._filtered[key]
        if self._narrowed and key not in self._all and key not in self._filtered:
            self._forget_narrowed(key)

    def _forget_narrowed(self, key: str) -> None:
        channel = channel_of(key)
        left = tuple(one for one in self._narrowed.pop(channel, ()) if one != key)
        if left:
            self._narrowed[channel] = left

    def of(self, channel: str) -> "Iterator[Subscription]":
        """Every live subscription of a channel, narrowed or not."""
        for key in (channel, *self._narrowed.get(channel, ())):
            group = self._all.get(key)
            if group is not None:
                yield from group.members
            for filtered in self._filtered.get(key, {}).values():
                yield from filtered.members

    def due(self, batch: Sequence[Entry], start: int = 0) -> "tuple[dict[Reader, list[Part]], int]":
        """What each live reader gets of `batch` from `start` on, and up to where: no more than a step of any channel.

        Readers that are behind are left out, they read it from the log.
        """
        readers: dict[Reader, list[Part]] = {}
        touched, end = self._touched(batch, start)
        for group, part in touched.items():
            alone = [part]
            if not readers:  # a broadcast has no other group
                readers = {one.reader: alone for one in group.members if one.reader.position is None}
                continue
            for subscription in group.members:
                reader = subscription.reader
                if reader.position is None:
                    known = readers.setdefault(reader, alone)
                    if known is not alone:
                        readers[reader] = [*known, part]
        return readers, end

    def _touched(self, batch: Sequence[Entry], start: int) -> tuple[dict[_Group, Part], int]:
        found: dict[_Group, Part] = {}
        met, is_full = self._met, False
        for place in range(start, len(batch)):
            entry = batch[place]
            groups = met.get(entry.keys)
            if groups is None:
                groups = self._meet(entry.keys)
            if self._filtered:
                groups = [*groups, *self._picked(entry)]
            size = len(entry.payload)
            for group in groups:
                part = found.get(group)
                if part is None:
                    part = found[group] = Part(group.channel, [entry], size, True)
                else:
                    part.entries.append(entry)
                    part.size += size
                if part.size >= STEP_BYTES:
                    is_full = True
            if is_full:
                return found, place + 1
        return found, len(batch)

    def _meet(self, keys: tuple[str, ...]) -> list[_Group]:
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        groups = self._met[keys] = [group for key in keys if (group := self._all.get(key)) is not None]
        return groups

    def _picked(self, entry: Entry) -> "list[_Group]":
        """The groups whose filter takes the entry."""
        return [
            group for key in entry.keys for types, group in self._filtered.get(key, {}).items() if entry.type in types
        ]


def _leave(groups: "dict[Name, _Group]", name: Name, subscription: "Subscription") -> None:
    group = groups.get(name)
    if group is not None:
        group.members.pop(subscription, None)
        if not group.members:
            del groups[name]
