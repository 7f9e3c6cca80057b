"""`GET /v1/ws`: from a checked handshake to a session (PROTOCOL §4, §5).

Only a forbidden origin is refused before the upgrade; a browser cannot see why a handshake failed,
so everything else is told after it, with its close code.
"""

import asyncio

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from contracts.errors import Refused
from contracts.principal import Principal
from services.chassis.problems import problem_response
from services.gateway.core.arrivals import Arrivals
from services.gateway.core.replica import Replica
from services.gateway.core.session import Session
from services.gateway.core.sink import Sink
from services.gateway.transports.address import Addresses
from services.gateway.transports.identity import Identity
from services.gateway.transports.takeover import EXTENSION, SlimProtocol, Upgrade
from services.gateway.transports.websocket import WebSocketTransport


class WebSocketEndpoint:
    """The WebSocket route."""

    def __init__(self, replica: Replica, identity: Identity, addresses: Addresses, arrivals: Arrivals) -> None:
        self._replica = replica
        self._identity = identity
        self._addresses = addresses
        self._arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the handshake and give the transport to a session; Starlette need not wrap what is an application."""
        websocket = WebSocket(scope, receive, send)
        try:
            token = self._identity.token_of_handshake(websocket)
        except Refused as forbidden:
            await websocket.send_denial_response(problem_response(forbidden.problem))
            return
        principal: Principal | None = None
        refusal = self._arrivals.refusal(self._addresses.of(websocket))
        try:
            if refusal is None and token is not None:
                principal = await self._identity.verify(token)
        except Refused as refused:
            refusal = refused.problem
        upgrade: Upgrade = scope["extensions"][EXTENSION]

        def make_session(sink: Sink) -> Session:
            session = Session(self._replica, sink, principal)
            if refusal is not None:
                session.refuse(refusal)
            return session

        def make(transport: asyncio.Transport, head: bytes) -> SlimProtocol:
            return WebSocketTransport(transport, head, make_session, self._replica.limits.write_high_bytes)

        upgrade.accept(make)
