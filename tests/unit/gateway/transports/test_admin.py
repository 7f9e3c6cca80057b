"""An admin's word is never less than what was said before, whatever the clock of the gateway that is asked."""

import time
from collections.abc import Sequence
from typing import Any

import httpx
import structlog
from starlette.applications import Starlette

from contracts.revocation import DEFAULT_SECONDS, Revocation
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.revocations import Revocations
from services.gateway.transports.admin import AdminEndpoints
from services.gateway.transports.identity import Identity
from tests.harness.tokens import SECRET, bearer


class Revoking:
    """Knows at once what it stores."""

    def __init__(self) -> None:
        self._known = Revocations()

    async def store(self, revocation: Revocation, now: float) -> None:
        self._known.apply(revocation)

    def standing(self, after: str, limit: int) -> Sequence[Revocation]:
        return self._known.standing(after, limit)

    def find(self, *, sub: str | None, jti: str | None) -> Revocation | None:
        return self._known.find(sub=sub, jti=jti)


async def revoked(behind: float, *bodies: dict[str, Any]) -> Revocation:
    """What stands after an admin has said these one after the other, each so many seconds before the last."""
    revoking, clock = Revoking(), [time.time() + behind]
    fleet: Any = None  # is not asked
    admin = AdminEndpoints(
        Identity(TokenVerifier(hs256_secret=SECRET), ()),
        fleet,
        revoking,
        bodies=Bodies(most_bytes=4096, seconds=1),
        wall=lambda: clock[0],
        log=structlog.get_logger(),
    )
    transport = httpx.ASGITransport(Starlette(routes=admin.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for body in bodies:
            answer = await client.post("/v1/admin/revocations", json=body, headers=bearer("root", "admin"))
            assert answer.status_code == 201
            clock[0] -= behind
    (found,) = revoking.standing("", 10)
    return found


async def test_a_revocation_said_again_by_a_clock_that_is_behind_bars_no_less() -> None:
    first = time.time() + 40.0
    found = await revoked(40.0, {"sub": "ada"}, {"sub": "ada"})
    assert found.at >= first
    assert found.until >= first + DEFAULT_SECONDS


async def test_a_revocation_said_again_holds_no_shorter_but_where_it_says_so() -> None:
    month, hour = time.time() + 30 * DEFAULT_SECONDS, time.time() + 3600
    assert (await revoked(0, {"sub": "ada", "until": month}, {"sub": "ada"})).until == month
    assert (await revoked(0, {"sub": "ada"}, {"sub": "ada", "until": hour})).until == hour
    assert (await revoked(0, {"jti": "t1", "until": hour}, {"jti": "t1"})).until > hour
