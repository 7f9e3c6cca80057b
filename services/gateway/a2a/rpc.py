"""The JSON-RPC binding, at one address: A2A 1.0's methods, and 0.3's for requests that speak 0.3."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.a2a import legacy
from services.gateway.a2a.dialects import JsonRpc, JsonRpc03, RpcId
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

Params = Mapping[str, Any]
_DIALECTS = {True: JsonRpc, False: JsonRpc03}


class RpcEndpoint:
    """`POST` of one JSON-RPC request."""

    def __init__(self, operations: Operations, requests: Requests, count: Callable[[str], None]) -> None:
        self._operations = operations
        self._requests = requests
        self._count = count
        self._methods: Mapping[bool, Mapping[str, Callable[[Call, Params], Awaitable[Response]]]] = {
            True: {
                "SendMessage": self._send,
                "SendStreamingMessage": self._stream,
                "GetTask": self._get,
                "ListTasks": self._list,
                "CancelTask": self._cancel,
                "SubscribeToTask": self._subscribe,
                "CreateTaskPushNotificationConfig": _no_push,
                "GetTaskPushNotificationConfig": _no_push,
                "ListTaskPushNotificationConfigs": _no_push,
                "DeleteTaskPushNotificationConfig": _no_push,
                "GetExtendedAgentCard": _no_card,
            },
            False: {
                "message/send": self._send,
                "message/stream": self._stream,
                "tasks/get": self._get,
                "tasks/cancel": self._cancel,
                "tasks/resubscribe": self._subscribe,
                "tasks/pushNotificationConfig/set": _no_push,
                "tasks/pushNotificationConfig/get": _no_push,
                "tasks/pushNotificationConfig/list": _no_push,
                "tasks/pushNotificationConfig/delete": _no_push,
                "agent/getAuthenticatedExtendedCard": _no_card_03,
            },
        }

    async def post(self, request: Request) -> Response:
        """Answer one request; who asks is judged before what is asked."""
        dialect = JsonRpc(None)

        async def act() -> Response:
            nonlocal dialect
            is_v1 = version_of(request) == V1
            dialect = _DIALECTS[is_v1](None)
            principal, token = await self._requests.caller(request)
            found = await self._requests.json(request)
            dialect = _DIALECTS[is_v1](_id_of(found))
            method, params = _method_of(found)
            known = self._methods[is_v1].get(method)
            if known is None:
                raise self._unknown(method, is_v1=is_v1)
            return await known(Call(request, principal, token, dialect), params)

        return await answered(lambda: dialect, act, self._count)

    def _unknown(self, method: str, *, is_v1: bool) -> Exception:
        if not is_v1 and method in self._methods[True]:
            return failed(Kind.VERSION_NOT_SUPPORTED, f"{method} is of A2A 1.0: send the header A2A-Version: 1.0")
        return failed(Kind.METHOD_NOT_FOUND)

    async def _send(self, call: Call, params: Params) -> Response:
        task = await self._operations.send(call, _send_params(call, params))
        return reply(call.dialect.update("task", task))

    async def _stream(self, call: Call, params: Params) -> Response:
        return await self._operations.send_streaming(call, _send_params(call, params))

    async def _get(self, call: Call, params: Params) -> Response:
        asked = read_params(params, GetParams)
        if isinstance(call.dialect, JsonRpc03):
            asked.history_length = asked.history_length or None  # to 0.3 a length of 0 is no limit
        return reply(call.dialect.answer("task", await self._operations.get(call, asked)))

    async def _list(self, call: Call, params: Params) -> Response:
        return reply(call.dialect.answer("tasks", await self._operations.list(call, list_params(params))))

    async def _cancel(self, call: Call, params: Params) -> Response:
        return reply(call.dialect.answer("task", await self._operations.cancel(call, read_params(params, IdParams))))

    async def _subscribe(self, call: Call, params: Params) -> Response:
        return await self._operations.subscribe(call, read_params(params, IdParams))


def _send_params(call: Call, params: Params) -> SendParams:
    if isinstance(call.dialect, JsonRpc03):
        configuration = params.get("configuration")
        params = {
            **params,
            "message": legacy.message_read(params.get("message")),
            "configuration": legacy.configuration_read(configuration) if isinstance(configuration, dict) else {},
        }
    found: SendParams = read_params(params, SendParams)
    return found


async def _no_push(_: Call, __: Params) -> Response:
    raise failed(Kind.PUSH_NOT_SUPPORTED)


async def _no_card(_: Call, __: Params) -> Response:
    raise failed(Kind.UNSUPPORTED_OPERATION, "There is no extended card; the public one says it all")


async def _no_card_03(_: Call, __: Params) -> Response:
    raise failed(Kind.NO_EXTENDED_CARD)


def _id_of(found: object) -> RpcId:
    """The id to repeat; None where it is none of JSON-RPC's."""
    request_id = found.get("id") if isinstance(found, dict) else None
    return request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None


def _method_of(found: object) -> tuple[str, Params]:
    if isinstance(found, list):
        raise failed(Kind.INVALID_REQUEST, "batches are not supported")
    if not isinstance(found, dict) or found.get("jsonrpc") != "2.0":
        raise failed(Kind.INVALID_REQUEST, 'a request is an object with jsonrpc "2.0"')
    method, params = found.get("method"), found.get("params", {})
    if not isinstance(method, str) or not method:
        raise failed(Kind.INVALID_REQUEST, "a request has a method")
    if found.get("id") is not None and _id_of(found) is None:
        raise failed(Kind.INVALID_REQUEST, "an id is a string or an integer")
    if not isinstance(params, dict):
        raise failed(Kind.INVALID_PARAMS, "params is an object")
    return method, params
