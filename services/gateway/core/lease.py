"""Leases: which replicas live, as one of them sees it.

A replica's members hold for as long as its lease is renewed, and the grace longer. Silence counts only while this
replica itself hears: cut off, it knows nothing of the others and tells nobody that they left. Pure.
"""

# What is taken off, for the rhythm in which time is looked at and changes are told: a replica that was killed right
# after its renewal is gone within lease and grace, told to clients included.
_SLACK_SECONDS = 1.0


class Leases:
    """When each other replica's members leave, unless it is heard of before."""

    def __init__(self, lease_seconds: float, grace_seconds: float) -> None:
        slack = min(_SLACK_SECONDS, lease_seconds / 4)
        self._patience = max(lease_seconds + grace_seconds - slack, lease_seconds)
        self._grace = max(grace_seconds - slack, 0.0)
        # Replica -> the moment at which its members leave.
        self._ends: dict[str, float] = {}
        self._hears = False

    def __contains__(self, replica: str) -> bool:
        return replica in self._ends

    def __len__(self) -> int:
        return len(self._ends)

    def renewed(self, replica: str, now: float) -> None:
        """It lives."""
        self._ends[replica] = now + self._patience

    def ended(self, replica: str, now: float) -> None:
        """Its lease ran out at the store: the grace begins, if it has not before."""
        known = self._ends.get(replica)
        if known is not None:
            self._ends[replica] = min(known, now + self._grace)

    def deafened(self) -> None:
        """From now on nothing is heard of anybody."""
        self._hears = False

    def hears(self, living: set[str], now: float) -> None:
        """Others are heard again; `living` have a lease, and who has none now has the grace to come back."""
        self._hears = True
        for replica in self._ends:
            self._ends[replica] = now + (self._patience if replica in living else self._grace)
        for replica in living:
            self._ends[replica] = now + self._patience

    def take_ended(self, now: float) -> list[str]:
        """Whose members leave now; they are forgotten here."""
        if not self._hears:
            return []
        found = [replica for replica, end in self._ends.items() if end <= now]
        for replica in found:
            del self._ends[replica]
        return found

    @property
    def due(self) -> float | None:
        """When `take_ended` may have something next."""
        return min(self._ends.values(), default=None) if self._hears else None
