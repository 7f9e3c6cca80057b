"""The HTTP+JSON binding of A2A 1.0, below the same address as JSON-RPC."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.a2a.card import RPC_PATH
from services.gateway.a2a.dialects import Rest
from services.gateway.a2a.faults import Kind, failed
from services.gateway.a2a.operations import (
    Call,
    GetParams,
    IdParams,
    Operations,
    SendParams,
    list_params,
    read_params,
)
from services.gateway.a2a.replies import Requests, answered, reply
from services.gateway.a2a.versions import V1, version_of

Act = Callable[[Call], Awaitable[Response]]

_DIALECT = Rest()


class RestEndpoints:
    """One route each."""

    def __init__(self, operations: Operations, requests: Requests, count: Callable[[str], None]) -> None:
        self._operations = operations
        self._requests = requests
        self._count = count

    def routes(self) -> list[Route]:
        """For the gateway's router; the last takes what nothing else did."""
        return [
            self._route("/message:send", self._send, "POST"),
            self._route("/message:stream", self._stream, "POST"),
            self._route("/tasks", self._list, "GET"),
            self._route("/tasks/{id}:cancel", self._cancel, "POST"),
            # The specification's table says GET, its SDK sends POST.
            self._route("/tasks/{id}:subscribe", self._subscribe, "GET", "POST"),
            self._route("/tasks/{id}", self._get, "GET"),
            self._route("/tasks/{id}/pushNotificationConfigs", _no_push, "GET", "POST"),
            self._route("/tasks/{id}/pushNotificationConfigs/{config}", _no_push, "GET", "DELETE"),
            self._route("/extendedAgentCard", _no_card, "GET"),
            self._route("/{rest:path}", _nothing, "GET", "POST", "PUT", "PATCH", "DELETE"),
        ]

    def _route(self, path: str, act: Act, *methods: str) -> Route:
        async def endpoint(request: Request) -> Response:
            async def checked() -> Response:
                if version_of(request) != V1:
                    raise failed(Kind.VERSION_NOT_SUPPORTED, "send the header A2A-Version: 1.0")
                principal, token = await self._requests.caller(request)
                return await act(Call(request, principal, token, _DIALECT))

            return await answered(lambda: _DIALECT, checked, self._count)

        return Route(RPC_PATH + path, endpoint, methods=list(methods))

    async def _send(self, call: Call) -> Response:
        return reply(_DIALECT.update("task", await self._operations.send(call, await self._sent(call))))

    async def _stream(self, call: Call) -> Response:
        return await self._operations.send_streaming(call, await self._sent(call))

    async def _sent(self, call: Call) -> SendParams:
        found = await self._requests.json(call.request)
        if not isinstance(found, dict):
            raise failed(Kind.INVALID_PARAMS, "the body is an object")
        sent: SendParams = read_params(found, SendParams)
        return sent

    async def _list(self, call: Call) -> Response:
        asked = list_params(dict(call.request.query_params))
        return reply(_DIALECT.answer("tasks", await self._operations.list(call, asked)))

    async def _get(self, call: Call) -> Response:
        asked = read_params({**call.request.query_params, **call.request.path_params}, GetParams)
        return reply(_DIALECT.answer("task", await self._operations.get(call, asked)))

    async def _cancel(self, call: Call) -> Response:
        await self._requests.json(call.request)  # holds nothing that is used, and may not be of any size
        return reply(_DIALECT.answer("task", await self._operations.cancel(call, _id(call))))

    async def _subscribe(self, call: Call) -> Response:
        await self._requests.json(call.request)
        if call.request.method == "HEAD":
            await self._operations.get(call, GetParams(_id(call).id))
            return reply(b"")
        return await self._operations.subscribe(call, _id(call))


def _id(call: Call) -> IdParams:
    return IdParams(call.request.path_params["id"])


async def _no_push(_: Call) -> Response:
    raise failed(Kind.PUSH_NOT_SUPPORTED)


async def _no_card(_: Call) -> Response:
    raise failed(Kind.UNSUPPORTED_OPERATION, "There is no extended card; the public one says it all")


async def _nothing(_: Call) -> Response:
    raise failed(Kind.METHOD_NOT_FOUND)
