"""A domain: a family of streams, channels, roles and events, declared as data (DESIGN decision 14; docs/new-domain.md).

A domain of one's own is a module that says `DOMAIN = Domain(...)` and is named in `A2A_DOMAINS`; nothing else
changes. This file decides which domains go together: what two of them claim, or what one names and nobody
declares, is refused before a service begins.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.channels import CHANNELS, ID, ChannelKind
from contracts.errors import ContractError
from contracts.principal import ROLES
from contracts.subjects import Layout, is_id
from contracts.topology import FLEET, STORES, STREAMS, StreamSpec

if TYPE_CHECKING:
    from contracts.contract import Contract

_STREAM_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,31}", re.ASCII)
_ROLE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


class InvalidDomain(ContractError):
    """Domains that do not go together, or one that does not fit in itself."""


@dataclass(frozen=True)
class Domain:
    """What one family of events needs everywhere."""

    name: str
    streams: tuple[StreamSpec, ...] = ()
    channels: tuple[ChannelKind, ...] = ()
    # Roles that tokens may bear beside those of other domains.
    roles: frozenset[str] = frozenset()
    events: "tuple[Contract, ...]" = ()

    def joined_with(self, others: Iterable["Domain"]) -> "Domain":
        """This domain and the others as one.

        Raises:
            InvalidDomain: says in one line what does not fit.
        """
        every = (self, *others)
        found = Domain(
            "+".join(one.name for one in every),
            tuple(stream for one in every for stream in one.streams),
            tuple(kind for one in every for kind in one.channels),
            frozenset(role for one in every for role in one.roles),
            tuple(event for one in every for event in one.events),
        )
        for problem in (*_streams(found), *_channels(found), *_events(found)):
            raise InvalidDomain(f"{found.name}: {problem}")
        return found


MARKET_DOMAIN = Domain("market", STREAMS, CHANNELS, ROLES)
"""What every service knows. Its events are those of `contracts.registry`, which not every service needs."""


def _streams(domain: Domain) -> Iterator[str]:
    taken: dict[str, str] = {}
    for spec in (*domain.streams, *STORES, *FLEET):
        if not _STREAM_NAME.fullmatch(spec.name):
            yield f"{spec.name!r} is no name of a stream: capitals, digits and _, 32 at most"
        for name in (spec.name, spec.replay_mirror):
            if name in taken:
                yield f"{name} is declared twice"
            taken[name] = name
        for subject in spec.subjects:
            for other, owner in taken.items():
                if owner != spec.name and _overlap(subject, other):
                    yield f"{spec.name} and {owner} both take {subject}"
            taken[subject] = spec.name
    for role in domain.roles:
        if not _ROLE_NAME.fullmatch(role):
            yield f"{role!r} is no name of a role"


def _channels(domain: Domain) -> Iterator[str]:
    layouts: dict[str, Layout] = {}
    taken: dict[str, set[str | None]] = {}
    for kind in domain.channels:
        name = f"channel {kind.name}:{kind.only_id or ID}"
        ids = taken.setdefault(kind.name, set())
        if kind.only_id in ids or (ids and None in {*ids, kind.only_id}):
            yield f"{name} is declared twice"
        ids.add(kind.only_id)
        if not is_id(kind.name) or not is_id(kind.only_id or kind.name):
            yield f"{name} is not of the grammar of channels"
        yield from _placed(domain, name, kind.stream, kind.layout)
        if layouts.setdefault(kind.stream, kind.layout) != kind.layout:
            yield f"{name}: all channels of {kind.stream} have one layout of subjects"
        named = {token for selection in kind.selections for token in selection} | set(kind.narrowing_tokens)
        for token in sorted(named - set(kind.layout.tokens)):
            yield f"{name}: {kind.layout.prefix} subjects have no token {token}"
        for role in sorted(kind.access.keys() - domain.roles):
            yield f"{name}: nobody declares the role {role}"


def _events(domain: Domain) -> Iterator[str]:
    taken = set()
    for event in domain.events:
        name = f"{event.type} version {event.version}"
        if (event.type, event.version) in taken:
            yield f"{name} is declared twice"
        taken.add((event.type, event.version))
        yield from _placed(domain, name, event.stream, event.layout)
        named, there = event.keys.keys() | event.fixed.keys() | event.given.keys(), set(event.layout.tokens)
        if named != there:
            yield f"{name} must say of each token, and of no other, what it is: {', '.join(sorted(named ^ there))}"


def _placed(domain: Domain, name: str, stream: str, layout: Layout) -> Iterator[str]:
    for spec in domain.streams:
        if spec.name == stream:
            if layout.wildcard not in spec.subjects:
                yield f"{name}: {stream} does not take {layout.wildcard}"
            return
    yield f"{name}: nobody declares the stream {stream}"


def _overlap(one: str, other: str) -> bool:
    """Whether two filters have a subject in common."""
    ours, theirs = one.split("."), other.split(".")
    for left, right in zip(ours, theirs, strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return len(ours) == len(theirs)
