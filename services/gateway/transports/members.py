"""Who is in a channel, by pages over HTTP (PROTOCOL §7): the same grants and the same members as on a WebSocket."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.errors import ErrorCode, Problem, Refused
from contracts.presence import Member, members_page
from services.gateway.core.access import Grant
from services.gateway.core.history import Poll
from services.gateway.core.replica import Replica
from services.gateway.transports.identity import Identity
from services.gateway.transports.parameters import number

_DEFAULT_LIMIT = 100
_LARGEST_LIMIT = 1000
_READ_SECONDS = 5.0
_UNAVAILABLE = Problem(ErrorCode.REPLAY_UNAVAILABLE, "this gateway cannot tell who is there just now", 1000)


class MembersEndpoint:
    """`GET /v1/channels/{channel}/presence`."""

    def __init__(self, replica: Replica, identity: Identity) -> None:
        self._replica = replica
        self._identity = identity

    def routes(self) -> list[Route]:
        """For the application's router."""
        return [Route("/v1/channels/{channel}/presence", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """One page, ordered by id and role; `next` is the `after` of the page that follows."""
        principal = await self._identity.of_request(request)
        grant = self._replica.access.grant(principal, request.path_params["channel"])
        if isinstance(grant, Problem):
            raise Refused(grant)
        limit = int(number(request, "limit", _DEFAULT_LIMIT, 1, _LARGEST_LIMIT))
        after = request.query_params.get("after", "")
        if not self._replica.streams[grant.stream].is_open:
            raise Refused(_UNAVAILABLE)
        poll = Poll(principal, self._replica.new_id(), self._replica.dismiss)
        problem = self._replica.admit(principal, poll)
        if problem is not None:
            raise Refused(problem)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                found = await self._members(grant) if await self._is_party(grant) else []
        except TimeoutError:
            raise Refused(_UNAVAILABLE) from None
        finally:
            poll.end()
        rest = sorted(
            (one for one in found if _place(one) > after and grant.sees(one.sub, one.role)),
            key=_place,
        )
        following = _place(rest[limit - 1]) if len(rest) > limit else None
        body = members_page(rest[:limit], following)
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _is_party(self, grant: Grant) -> bool:
        judged: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()

        def told(is_party: bool | None) -> None:
            if not judged.done():
                judged.set_result(is_party)

        self._replica.presence.parties.judge(grant, told)
        found = await judged
        if found is None:
            raise Refused(_UNAVAILABLE)
        return found

    async def _members(self, grant: Grant) -> list[Member]:
        answered: asyncio.Future[list[Member] | None] = asyncio.get_running_loop().create_future()

        def told(found: list[Member] | None) -> None:
            if not answered.done():
                answered.set_result(found)

        presence = self._replica.presence
        presence.ask(grant.channel, told)
        try:
            found = await answered
        finally:
            presence.forget_guest(grant.channel, told)
        if found is None:
            raise Refused(_UNAVAILABLE)
        return found


def _place(member: Member) -> str:
    """Where a member stands in the order; an id holds no dot."""
    return f"{member.sub}.{member.role}"
