"""The members of one channel as all replicas' pages say together, and what has changed of them lately.

A member is who stands in any page; of several the latest data holds. Changes are collected and then settled, so that
who left one replica's page and came into another's within that time has neither left nor come. Settled changes are
kept for a while and numbered: whoever knows the members as of a version is brought up to date with what followed, as
a connection is with a log.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from contracts.presence import Member

Key = tuple[str, str]
# Replica and number: whose page it is.
PageKey = tuple[str, int]

# Changes kept for who is behind; whoever is further back gets the whole list.
_MOST_CHANGES = 64
_MOST_CHANGED = 512


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One settled change."""

    joins: tuple[Member, ...]
    leaves: tuple[Member, ...]
    updates: tuple[Member, ...]

    def __len__(self) -> int:
        return len(self.joins) + len(self.leaves) + len(self.updates)


class Membership:
    """Who is in one channel."""

    def __init__(self) -> None:
        self.members: dict[Key, Member] = {}
        # How many changes were settled.
        self.version = 0
        self._pages: dict[PageKey, dict[Key, Member]] = {}
        # Who was changed since the last settling, and as what it was told then; None where it was not there.
        self._before: dict[Key, Member | None] = {}
        self._changes: deque[Change] = deque()
        self._changed = 0

    def put(self, page: PageKey, found: Iterable[Member]) -> None:
        """The page says this now; nothing where it is gone."""
        new = {member.key: member for member in found}
        old = self._pages.pop(page, {})
        if new:
            self._pages[page] = new
        for key in old.keys() - new.keys():
            self._note(key)
        for key, member in new.items():
            known = old.get(key)
            if known is None or known.at != member.at or not known.says_the_same(member):
                self._note(key)

    def drop(self, replica: str) -> None:
        """That replica is gone, and its pages with it."""
        for page in [page for page in self._pages if page[0] == replica]:
            self.put(page, ())

    def others(self, replica: str) -> list[PageKey]:
        """The pages of all replicas but this one."""
        return [page for page in self._pages if page[0] != replica]

    def _note(self, key: Key) -> None:
        self._before.setdefault(key, self.members.get(key))
        says = [page[key] for page in self._pages.values() if key in page]
        if says:
            self.members[key] = max(says, key=_moment)
        else:
            self.members.pop(key, None)

    def settle(self) -> bool:
        """Number what has changed since the last time; whether that is anything."""
        joins, leaves, updates = [], [], []
        for key, before in self._before.items():
            now = self.members.get(key)
            if now is None:
                if before is not None:
                    leaves.append(before)
            elif before is None:
                joins.append(now)
            elif not now.says_the_same(before):
                updates.append(now)
        self._before.clear()
        change = Change(tuple(joins), tuple(leaves), tuple(updates))
        if not len(change):
            return False
        self.version += 1
        self._changes.append(change)
        self._changed += len(change)
        while len(self._changes) > _MOST_CHANGES or (self._changed > _MOST_CHANGED and len(self._changes) > 1):
            self._changed -= len(self._changes.popleft())
        return True

    def since(self, version: int) -> list[Change] | None:
        """The changes after `version`, the oldest first; None where they are no longer kept."""
        behind = self.version - version
        if behind > len(self._changes):
            return None
        return list(self._changes)[len(self._changes) - behind :]


def _moment(member: Member) -> tuple[int, bytes]:
    # Data breaks a tie, so that every replica chooses the same.
    return member.at, bytes(member.data)
