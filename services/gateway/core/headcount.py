"""The headcount: how many connections each principal's id holds, here and on the other replicas.

Each replica counts its own and hears the others' (`services.gateway.bus.gossip`), so what is known of those is a
moment old and nobody waits to be let in. Where an id holds too many, the one that has to go is the same seen from
every replica: the oldest or the newest of all, as the policy says, and its own replica closes it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from contracts.errors import Problem
from contracts.principal import Principal

# An id is told to the others from this share of the limit on: who holds one connection costs them nothing.
_TOLD_SHARE = 10


class Policy(Enum):
    """Who stays where there are too many."""

    OLDEST = "oldest"
    NEWEST = "newest"


class Holder(Protocol):
    """What counts as a connection: a WebSocket, an event stream, a history request."""

    # Ids are in the order in which connections began, over all replicas.
    connection_id: str

    @property
    def principal(self) -> Principal | None:
        """Whose it is."""

    def refuse(self, problem: Problem) -> None:
        """End it now and say why; it is out of the headcount when this returns."""


# How many, and the id of the one that has to go first.
Told = tuple[int, str]


@dataclass(slots=True)
class Other:
    """What another replica has told."""

    region: str
    counts: dict[str, Told] = field(default_factory=dict)


class Headcount:
    """The holders of this replica by principal's id, and the numbers of the others."""

    def __init__(self, limit: int, policy: Policy) -> None:
        self._limit = limit
        self._policy = policy
        self._told_from = max(1, limit // _TOLD_SHARE)
        # Most ids hold one connection, and need no set for it; the set is a dict, which keeps their order.
        self._own: dict[str, Holder | dict[Holder, None]] = {}
        self.others: dict[str, Other] = {}
        # Ids whose number here has changed since it was told.
        self._changed: dict[str, None] = {}
        # Ids that the others were told of.
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[Holder]:
        for held in list(self._own.values()):
            yield from list(held) if isinstance(held, dict) else (held,)

    def of(self, sub: str) -> list[Holder]:
        """The holders of one id here."""
        held = self._own.get(sub)
        if held is None:
            return []
        return list(held) if isinstance(held, dict) else [held]

    def numbers(self) -> dict[str, int]:
        """How many each id has here."""
        return {sub: len(held) if isinstance(held, dict) else 1 for sub, held in self._own.items()}

    def add(self, sub: str, holder: Holder) -> None:
        """One more."""
        held = self._own.get(sub)
        if held is None:
            self._own[sub] = holder
        elif isinstance(held, dict):
            held[holder] = None
        else:
            self._own[sub] = {held: None, holder: None}
        self._note(sub)

    def remove(self, sub: str, holder: Holder) -> None:
        """One less. Idempotent."""
        held = self._own.get(sub)
        if held is holder:
            del self._own[sub]
        elif isinstance(held, dict) and holder in held:
            del held[holder]
            if len(held) == 1:
                (self._own[sub],) = held
        else:
            return
        self._note(sub)

    # The limit.

    def is_full(self, sub: str) -> bool:
        """Whether there is no room for a newcomer, where those stay who were first."""
        return self._policy is Policy.OLDEST and self._here(sub) + self._elsewhere(sub) >= self._limit

    def surplus(self, sub: str, but: Holder | None = None) -> Holder | None:
        """Who has to go next; None where nobody has to, or one of another replica. `but`: not this one."""
        here = self._here(sub)
        if here + self._elsewhere(sub) <= self._limit:
            return None
        candidates = [holder for holder in self.of(sub) if holder is not but]
        if not candidates:
            return None
        first = self._first_to_go(candidates)
        if here > self._limit:
            return first  # of this replica's alone no more than that can be among those who stay
        edges = [other.counts[sub][1] for other in self.others.values() if sub in other.counts]
        return first if all(self._goes_before(first.connection_id, edge) for edge in edges) else None

    def _here(self, sub: str) -> int:
        held = self._own.get(sub)
        if held is None:
            return 0
        return len(held) if isinstance(held, dict) else 1

    def _elsewhere(self, sub: str) -> int:
        if not self.others:
            return 0
        return sum(other.counts[sub][0] for other in self.others.values() if sub in other.counts)

    def _first_to_go(self, held: Iterable[Holder]) -> Holder:
        goes_first = min if self._policy is Policy.NEWEST else max
        return goes_first(held, key=lambda holder: holder.connection_id)

    def _goes_before(self, one: str, other: str) -> bool:
        return one <= other if self._policy is Policy.NEWEST else one >= other

    # What replicas tell each other.

    def _note(self, sub: str) -> None:
        if sub in self._told or self._here(sub) >= self._told_from:
            self._changed[sub] = None

    def changes(self) -> dict[str, Told]:
        """What is new since the last call; nobody left is told as none."""
        changed, self._changed = self._changed, {}
        found = {sub: self._as_told(sub) for sub in changed}
        for sub, (count, _) in found.items():
            (self._told.add if count else self._told.discard)(sub)
        return found

    def whole(self) -> dict[str, Told]:
        """All that the others are to know."""
        return {sub: self._as_told(sub) for sub in self._told if sub in self._own}

    def _as_told(self, sub: str) -> Told:
        held = self.of(sub)
        if len(held) < self._told_from:
            return (0, "")
        return (len(held), self._first_to_go(held).connection_id)

    def hear(self, replica: str, region: str, counts: Mapping[str, Told], *, anew: bool) -> list[str]:
        """What another replica holds; `anew`: this is where its whole list begins. The ids whose number has grown."""
        other = self.others.get(replica)
        if other is None:
            other = self.others[replica] = Other(region)
        if anew:
            other.counts.clear()
        grown = []
        for sub, told in counts.items():
            if not told[0]:
                other.counts.pop(sub, None)
                continue
            other.counts[sub] = told
            if sub in self._own:
                grown.append(sub)
        return grown

    def forget(self, replica: str) -> None:
        """Another replica is gone, and what it held."""
        self.others.pop(replica, None)
