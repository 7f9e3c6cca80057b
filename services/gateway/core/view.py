"""A view: a channel that somebody here watches, its members, and the frames that its watchers are told.

What is told is made once for all who see everybody; whoever sees only some gets frames of its own.
"""

from collections.abc import Callable, Iterator

from contracts.presence import PAGE_MEMBERS, Member, change, members
from services.gateway.core.access import Grant
from services.gateway.core.connection import Connection
from services.gateway.core.frames import text_frame
from services.gateway.core.membership import Change, Membership

# Changes of a channel whose frames are kept ready.
_CHANGES_READY = 8

# Takes the members; None where they cannot be had now.
Told = Callable[[list[Member] | None], None]


class Watcher:
    """One connection that is told of a channel's members."""

    __slots__ = ("connection", "grant", "pages", "version")

    def __init__(self, connection: Connection, grant: Grant) -> None:
        self.connection = connection
        self.grant = grant
        # What of the members it was told; None before the whole list.
        self.version: int | None = None
        # What is left of a list that is being told.
        self.pages: Iterator[bytes] | None = None


class View:
    """A watched channel."""

    __slots__ = ("changes", "channel", "guests", "listed", "membership", "ready_by", "watchers")

    def __init__(self, channel: str, ready_by: float) -> None:
        self.channel = channel
        self.membership = Membership()
        self.watchers: dict[Watcher, None] = {}
        # Who asked for the members once, and is told when they are here.
        self.guests: dict[Told, None] = {}
        # Until when the store is waited for; None once watchers are told.
        self.ready_by: float | None = ready_by
        # Frames for those who see everybody: of a version's list, and of changes.
        self.listed: tuple[int, list[bytes]] | None = None
        self.changes: dict[Change, bytes] = {}

    def list_for(self, grant: Grant) -> list[bytes]:
        """The whole list as its viewer sees it; made once for all who see everybody."""
        membership = self.membership
        if grant.narrowing is not None:
            return _pages(self.channel, [one for one in membership.members.values() if grant.sees(one.sub, one.role)])
        if self.listed is None or self.listed[0] != membership.version:
            self.listed = membership.version, _pages(self.channel, list(membership.members.values()))
        return self.listed[1]

    def frame_for(self, told: Change, grant: Grant) -> bytes | None:
        """A change as its viewer sees it; None where it sees nothing of it."""
        if grant.narrowing is not None:
            parts = [[one for one in part if grant.sees(one.sub, one.role)] for part in _parts(told)]
            return text_frame(change(self.channel, *parts)) if any(parts) else None
        frame = self.changes.get(told)
        if frame is None:
            if len(self.changes) >= _CHANGES_READY:
                self.changes.clear()
            frame = self.changes[told] = text_frame(change(self.channel, *_parts(told)))
        return frame


def _parts(told: Change) -> tuple[tuple[Member, ...], tuple[Member, ...], tuple[Member, ...]]:
    return told.joins, told.leaves, told.updates


def _pages(channel: str, found: list[Member]) -> list[bytes]:
    """The whole list as messages of a page each; one, of nobody, where there is nobody."""
    starts = range(0, max(len(found), 1), PAGE_MEMBERS)
    return [
        text_frame(members(channel, found[at : at + PAGE_MEMBERS], more=at + PAGE_MEMBERS < len(found)))
        for at in starts
    ]
