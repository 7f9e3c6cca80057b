"""The facade as the gateway's router takes it in: the agent card, and both bindings at one address."""

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from services.gateway.a2a.card import CARD_PATH, RPC_PATH, agent_card
from services.gateway.a2a.operations import ComesTooSoon, Operations
from services.gateway.a2a.replies import Requests
from services.gateway.a2a.rest import RestEndpoints
from services.gateway.a2a.rpc import RpcEndpoint
from services.gateway.bus.plans import PlanRequests
from services.gateway.core.replica import Replica
from services.gateway.transports.identity import Identity, own_origin


def a2a_routes(
    replica: Replica, identity: Identity, plans: PlanRequests, comes_too_soon: ComesTooSoon, *, public_url: str
) -> list[BaseRoute]:
    """What A2A's clients find here; `public_url`: what the card calls the gateway, empty for what was asked."""
    operations, requests = Operations(replica, identity, plans, comes_too_soon), Requests(identity)
    count = partial(replica.tally.count, replica.tally.problems)

    async def card(request: Request) -> Response:
        # Made of what the client says it asked, it is for that client alone.
        cached = "public, max-age=300" if public_url else "no-store"
        return JSONResponse(agent_card(public_url or own_origin(request)), headers={"Cache-Control": cached})

    return [
        Route(CARD_PATH, card, methods=["GET"]),
        Route(RPC_PATH, RpcEndpoint(operations, requests, count).post, methods=["POST"]),
        *RestEndpoints(operations, requests, count).routes(),
    ]
