"""When a region is too far behind to be used, and when it is fit again. Pure.

Two limits, and two looks in a row below the lower one: a region that swings around one limit would be taken out of
and put back into service all the time, and each time its clients would move.
"""

_LOOKS_TO_RECOVER = 2
_RECOVERED_SHARE = 0.25


class Lateness:
    """Remembers whether the region is too late."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        # Looks in a row at which it was well within the limit, while it is too late.
        self._good_looks = 0
        # By how much it was behind at the last look; None before the hub was first reached.
        self.behind_seconds: float | None = None
        self.is_late = True

    def see(self, behind_seconds: float) -> None:
        """Take in one look."""
        is_first, self.behind_seconds = self.behind_seconds is None, behind_seconds
        if behind_seconds > self._limit:
            self.is_late, self._good_looks = True, 0
        elif self.is_late:
            fits = behind_seconds <= self._limit * _RECOVERED_SHARE
            self._good_looks = self._good_looks + 1 if fits else 0
            # Where it was never fit nobody is moved by its becoming so.
            self.is_late = not (is_first or self._good_looks >= _LOOKS_TO_RECOVER)

    @property
    def reason(self) -> str | None:
        """Why it is not to be used."""
        if self.behind_seconds is None:
            return "the hub has not been reached yet"
        return f"the region is {self.behind_seconds:.1f} s behind the hub" if self.is_late else None
