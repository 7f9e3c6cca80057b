"""Revoking: an admin's word, stored in the stream CONTROL; every service hears it from there."""

import json
import math
from collections.abc import Callable, Sequence

import nats.errors

from contracts.errors import ErrorCode, Problem, Refused
from contracts.revocation import Revocation
from contracts.topology import CONTROL
from services.chassis.revocations import Revocations
from services.gateway.bus.site import NotConnected, Site

_ACK_SECONDS = 3.0
_RETRY_MS = 1000
_FAILURES = (nats.errors.Error, NotConnected, OSError)


class Revoking:
    """Writes revocations, and tells those that are known."""

    def __init__(self, site: Site, known: Revocations, on_revoked: Callable[[Sequence[Revocation]], None]) -> None:
        self._site = site
        self._known = known
        self._on_revoked = on_revoked

    def standing(self, after: str, limit: int) -> Sequence[Revocation]:
        """Those that stand, by name."""
        return self._known.standing(after, limit)

    def find(self, *, sub: str | None, jti: str | None) -> Revocation | None:
        """The one that stands about this id."""
        return self._known.find(sub=sub, jti=jti)

    async def store(self, revocation: Revocation, now: float) -> None:
        """Store it, and obey it here before that is told; the server forgets it when it has ended.

        Raises:
            Refused: it is not stored, or not known to be; sending the same again does no harm.
        """
        keep = max(1, math.ceil(revocation.until - now))
        try:
            answer = await self._site.client.request(
                revocation.subject,
                revocation.encoded(),
                timeout=_ACK_SECONDS,
                headers={"Nats-TTL": f"{keep}s", "Nats-Expected-Stream": CONTROL},
            )
        except _FAILURES as error:
            raise _unavailable("the hub's NATS is away") from error
        found = json.loads(answer.data)
        if "error" in found:
            raise _unavailable(f"not stored: {found['error'].get('description', 'refused')}")
        self._known.apply(revocation)
        self._on_revoked([revocation])


def _unavailable(why: str) -> Refused:
    return Refused(Problem(ErrorCode.UNAVAILABLE, why, _RETRY_MS))
