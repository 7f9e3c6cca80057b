"""How the same is said in each binding and version: the bytes of answers, of updates in a stream, and of errors."""

from typing import Any, Protocol

import msgspec

from services.gateway.a2a import legacy
from services.gateway.a2a.faults import Fault, Kind
from services.gateway.a2a.updates import Body

RpcId = str | int | None
_encode = msgspec.json.encode


class Dialect(Protocol):
    """One binding in one version, for one request."""

    def update(self, kind: str, body: Body) -> bytes:
        """One member of a `StreamResponse`; also what `SendMessage` answers."""

    def answer(self, kind: str, body: Body) -> bytes:
        """The answer of a call that is no stream; `kind`: what the body is."""

    def error(self, fault: Fault) -> bytes:
        """A refusal."""

    def error_block(self, fault: Fault) -> bytes:
        """A refusal, as the last block of a stream."""

    def status(self, fault: Fault) -> int:
        """The HTTP status of a refusal."""


class Rest:
    """HTTP+JSON of 1.0: bare objects, and google.rpc.Status in its JSON form (AIP-193)."""

    def update(self, kind: str, body: Body) -> bytes:
        """The bare `StreamResponse`."""
        return _encode({kind: body})

    def answer(self, kind: str, body: Body) -> bytes:
        """The bare object."""
        return _encode(body)

    def error(self, fault: Fault) -> bytes:
        """A google.rpc.Status."""
        kind = fault.kind
        status = {"code": kind.http, "status": kind.status, "message": fault.text, "details": fault.details()}
        return _encode({"error": status})

    def error_block(self, fault: Fault) -> bytes:
        """An event of its own name: its data is no `StreamResponse`."""
        return b"event: error\ndata: %b\n\n" % self.error(fault)

    def status(self, fault: Fault) -> int:
        """As AIP-193 maps it."""
        return fault.kind.http


class JsonRpc:
    """JSON-RPC of 1.0."""

    def __init__(self, request_id: RpcId) -> None:
        self._id = request_id

    def update(self, kind: str, body: Body) -> bytes:
        """A response whose result is the `StreamResponse`."""
        return self._result({kind: body})

    def answer(self, kind: str, body: Body) -> bytes:
        """A response whose result is the bare object."""
        return self._result(body)

    def error(self, fault: Fault) -> bytes:
        """An error response with its number."""
        error = {"code": fault.kind.number, "message": fault.text, "data": self._data(fault)}
        return _encode({"jsonrpc": "2.0", "id": self._id, "error": error})

    def error_block(self, fault: Fault) -> bytes:
        """A message like the others: a response is an error where it says so."""
        return b"data: %b\n\n" % self.error(fault)

    def status(self, fault: Fault) -> int:
        """What A2A numbers is JSON-RPC's business; the rest is HTTP's."""
        return fault.kind.http if fault.kind.number == Kind.UNAVAILABLE.number else 200

    def _result(self, body: Any) -> bytes:
        return _encode({"jsonrpc": "2.0", "id": self._id, "result": body})

    def _data(self, fault: Fault) -> Any:
        return fault.details()


class JsonRpc03(JsonRpc):
    """JSON-RPC of 0.3."""

    def update(self, kind: str, body: Body) -> bytes:
        """A response whose result is the object itself, with its `kind`."""
        return self._result(legacy.stream_response(kind, body))

    def answer(self, kind: str, body: Body) -> bytes:
        """The same; 0.3 has no lists."""
        return self._result(legacy.stream_response(kind, body))

    def _data(self, fault: Fault) -> Any:
        return {"reason": fault.kind.reason, "code": fault.code, "retryable": fault.retryable}
