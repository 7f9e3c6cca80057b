"""The timer wheel: one clock tick for all heartbeats and deadlines of a replica.

A connection stands in one slot, that of its next deadline, and says when it wants to be woken
again; so an idle connection owns no timer. Precision is one slot.
"""

from typing import Protocol

SLOT_SECONDS = 0.25


class Timed(Protocol):
    """Something with a next deadline."""

    # When it wants to be woken; None once it is in no slot.
    due: float | None

    def tick(self, now: float) -> float | None:
        """Do what is due; when to be woken again, or None for never."""


class Wheel:
    """Slots of `SLOT_SECONDS`; an item stands in one slot at most, so that nothing keeps what has left."""

    def __init__(self, now: float) -> None:
        self._slots: dict[int, dict[Timed, None]] = {}
        # The slot that is emptied next; what is due earlier goes there.
        self._next = int(now / SLOT_SECONDS)

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def put(self, item: Timed, due: float) -> None:
        """Wake `item` at `due`, unless it already stands in an earlier or equal slot."""
        if item.due is not None and item.due <= due:
            return
        self.drop(item)
        item.due = due
        self._slots.setdefault(self._slot(due), {})[item] = None

    def drop(self, item: Timed) -> None:
        """Do not wake `item`; harmless where it is in no slot."""
        if item.due is None:
            return
        slot = self._slots.get(self._slot(item.due))
        if slot is not None:
            slot.pop(item, None)
        item.due = None

    def _slot(self, due: float) -> int:
        return max(int(due / SLOT_SECONDS) + 1, self._next)

    def advance(self, now: float) -> None:
        """Wake everything whose deadline has passed."""
        end = int(now / SLOT_SECONDS)
        while self._next <= end:
            due = self._slots.pop(self._next, {})
            self._next += 1
            for item in due:
                if item.due is None or item.due > now:
                    continue  # one of those before has moved it or let it go
                item.due = None
                again = item.tick(now)
                if again is not None:
                    self.put(item, again)
