"""The roster: the members whose connections are at this replica, by channel, in the pages that the others read.

Several connections of one principal are one member; the latest data holds, and it leaves with the last of them. One
whose connection was lost stays for the grace, so that a client that comes back soon has not been away. Pure: moments
come in as arguments.
"""

from collections import deque
from collections.abc import Hashable, Iterator

from msgspec import Raw

from contracts.presence import PAGE_MEMBERS, Member

Key = tuple[str, str]


class _Present:
    """One member: its data, its page, and the connections that hold it."""

    __slots__ = ("gone_at", "member", "page", "seats")

    def __init__(self, member: Member, page: int) -> None:
        self.member = member
        self.page = page
        self.seats: set[Hashable] = set()
        # When its last connection was lost; None while it has one.
        self.gone_at: float | None = None


class _Channel:
    """The members of one channel, and the pages they stand in; a member keeps its page."""

    __slots__ = ("dirty", "pages", "present")

    def __init__(self) -> None:
        self.present: dict[Key, _Present] = {}
        self.pages: list[dict[Key, Member]] = []
        # Pages that were changed since they were last taken.
        self.dirty: set[int] = set()

    def free_page(self) -> int:
        """The first page with room."""
        for number, page in enumerate(self.pages):
            if len(page) < PAGE_MEMBERS:
                return number
        self.pages.append({})
        return len(self.pages) - 1

    def put(self, found: _Present, member: Member) -> None:
        """Have the member say this."""
        found.member = self.pages[found.page][member.key] = member
        self.dirty.add(found.page)

    def remove(self, key: Key) -> None:
        """The member is gone."""
        found = self.present.pop(key)
        del self.pages[found.page][key]
        self.dirty.add(found.page)


class Roster:
    """Everybody who entered here."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._channels: dict[str, _Channel] = {}
        # Who lost its last connection, in the order of that: one entry for each loss, let go after the grace.
        self._lost: deque[tuple[float, str, Key]] = deque()
        self.count = 0

    def enter(self, channel: str, key: Key, seat: Hashable, data: Raw, at: int) -> None:
        """One connection of `key` is there and says this; `at`: Unix milliseconds."""
        place = self._channels.setdefault(channel, _Channel())
        found = place.present.get(key)
        if found is None:
            page = place.free_page()
            found = place.present[key] = _Present(Member(*key, at, data), page)
            place.put(found, found.member)
            self.count += 1
        else:
            # Later than what it said before, whatever the clock did meanwhile.
            place.put(found, Member(*key, max(at, found.member.at + 1), data))
        found.seats.add(seat)
        found.gone_at = None

    def leave(self, channel: str, key: Key, seat: Hashable, now: float, *, at_once: bool) -> None:
        """That connection is there no more; `at_once`: it said so, else it was lost. Harmless where it was not."""
        place = self._channels.get(channel)
        found = place.present.get(key) if place is not None else None
        if place is None or found is None or seat not in found.seats:
            return
        found.seats.discard(seat)
        if found.seats:
            return
        if at_once or self._grace_seconds <= 0:
            self._remove(place, key)
        else:
            found.gone_at = now
            self._lost.append((now, channel, key))

    def pass_time(self, now: float) -> None:
        """Let go who did not come back within the grace."""
        while self._lost and self._lost[0][0] + self._grace_seconds <= now:
            at, channel, key = self._lost.popleft()
            place = self._channels.get(channel)
            found = place.present.get(key) if place is not None else None
            if place is not None and found is not None and found.gone_at == at:
                self._remove(place, key)

    @property
    def due(self) -> float | None:
        """When `pass_time` has something to do next."""
        return self._lost[0][0] + self._grace_seconds if self._lost else None

    def _remove(self, place: _Channel, key: Key) -> None:
        place.remove(key)
        self.count -= 1

    def take_changed(self) -> Iterator[tuple[str, int, tuple[Member, ...]]]:
        """Each page that was changed since the last time, as it is now; an empty one is to be deleted."""
        for channel in [name for name, place in self._channels.items() if place.dirty]:
            place = self._channels[channel]
            for number in sorted(place.dirty):
                yield channel, number, tuple(place.pages[number].values())
            place.dirty.clear()
            if not place.present:
                del self._channels[channel]

    def touch_all(self) -> None:
        """Every page counts as changed: others may have removed what was written of them."""
        for place in self._channels.values():
            place.dirty.update(number for number, page in enumerate(place.pages) if page)

    def places(self) -> Iterator[tuple[str, int]]:
        """Every page that is not empty, by channel and number."""
        for channel, place in self._channels.items():
            yield from ((channel, number) for number, page in enumerate(place.pages) if page)

    def pages(self, channel: str) -> Iterator[tuple[int, tuple[Member, ...]]]:
        """The pages of one channel."""
        place = self._channels.get(channel)
        for number, page in enumerate(place.pages if place is not None else ()):
            if page:
                yield number, tuple(page.values())
