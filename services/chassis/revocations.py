"""What is revoked, as far as this process knows: asked for every token, filled by `services.chassis.control`.

Until the stream has been read to its end nobody can be told apart from a revoked one, so nobody is let in.
Holds two times for each revocation that still stands, and forgets the others within a minute of their end.
"""

import heapq
import time
from collections.abc import Callable

from contracts.errors import ErrorCode, Problem
from contracts.principal import Principal
from contracts.revocation import Revocation

_SWEEP_SECONDS = 60.0
_RETRY_MS = 1000


class Revocations:
    """The revocations that stand."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Whose tokens issued up to when are barred, and until when: by subject id, and by token id.
        self._subs: dict[str, tuple[float, float]] = {}
        self._jtis: dict[str, tuple[float, float]] = {}
        # When those that have ended are let go next.
        self._sweep_at = clock() + _SWEEP_SECONDS
        # Whether the stream was read to its end once.
        self.is_current = False

    def __len__(self) -> int:
        return len(self._subs) + len(self._jtis)

    def apply(self, revocation: Revocation) -> None:
        """Take one as the stream has it; the later of two about the same takes the other's place."""
        known, name = (self._subs, revocation.sub) if revocation.sub else (self._jtis, revocation.jti)
        if name is None:
            return
        if revocation.lifted or revocation.until <= self._clock():
            known.pop(name, None)
        else:
            known[name] = (revocation.at, revocation.until)

    def judge(self, principal: Principal) -> Problem | None:
        """Why this token is not to be served; None where nothing stands against it."""
        if not self.is_current:
            return Problem(ErrorCode.UNAVAILABLE, "it is not known yet which tokens are revoked", _RETRY_MS)
        return Problem(ErrorCode.REVOKED) if self.bars(principal) else None

    def bars(self, principal: Principal) -> bool:
        """Whether what is known bars this token."""
        if not self._subs and not self._jtis:
            return False
        by_sub = self._subs.get(principal.sub)
        by_jti = self._jtis.get(principal.jti) if principal.jti is not None else None
        now, issued = self._clock(), principal.issued_at
        return any(
            found is not None and now < found[1] and (issued is None or issued <= found[0])
            for found in (by_sub, by_jti)
        )

    def standing(self, after: str, limit: int) -> list[Revocation]:
        """Those that stand, in the order of `sub:<id>` and `jti:<id>`, from behind `after`."""
        now = self._clock()
        names = heapq.nsmallest(
            limit,
            (
                name
                for kind, known in (("sub", self._subs), ("jti", self._jtis))
                for name in (f"{kind}:{key}" for key, (_, until) in known.items() if until > now)
                if name > after
            ),
        )
        return [found for name in names if (found := self._named(*name.split(":", 1))) is not None]

    def find(self, *, sub: str | None = None, jti: str | None = None) -> Revocation | None:
        """The one that stands about this subject id or this token id."""
        if (sub is None) == (jti is None):
            return None
        return self._named("jti", jti) if sub is None else self._named("sub", sub)

    def _named(self, kind: str, name: str | None) -> Revocation | None:
        found = (self._subs if kind == "sub" else self._jtis).get(name or "")
        if found is None or found[1] <= self._clock():
            return None
        at, until = found
        return Revocation(at=at, until=until, sub=name if kind == "sub" else None, jti=name if kind == "jti" else None)

    def sweep(self) -> None:
        """Let go of those that have ended, once a minute."""
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_SECONDS
        for known in (self._subs, self._jtis):
            for name in [name for name, (_, until) in known.items() if until <= now]:
                del known[name]
