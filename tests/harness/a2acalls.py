"""A2A's bindings by hand: one request each, and the blocks of a stream, where a test has to see the bytes."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.harness.gateway import Blocks, Gateway
from tests.harness.tokens import bearer

V1 = {"A2A-Version": "1.0"}


class A2aCaller:
    """One user at one gateway."""

    def __init__(self, gateway: Gateway, sub: str, role: str = "buyer", **claims: Any) -> None:
        self._gateway = gateway
        self.headers = bearer(sub, role, **claims)

    async def rpc(self, method: str, params: Any = None, *, version: str = "1.0", **headers: str) -> httpx.Response:
        """One JSON-RPC request."""
        return await self.post(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}).encode(),
            **{"A2A-Version": version, **headers},
        )

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        """Any body to the JSON-RPC address."""
        async with self._gateway.http as client:
            return await client.post("/a2a", content=body, headers={**self.headers, **_named(headers)})

    async def rest(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One REST request."""
        async with self._gateway.http as client:
            headers = {**V1, **self.headers, **more.pop("headers", {})}
            return await client.request(method, f"/a2a{path}", headers=headers, **more)

    @contextlib.asynccontextmanager
    async def follow(self, plan: str, cursor: str | None = None) -> AsyncIterator[Blocks]:
        """A REST stream of a plan, block by block."""
        headers = {**V1, **self.headers, **({"Last-Event-ID": cursor} if cursor is not None else {})}
        async with (
            self._gateway.http as client,
            client.stream("GET", f"/a2a/tasks/{plan}:subscribe", headers=headers) as answer,
        ):
            yield Blocks(answer)


def error_of(answer: httpx.Response) -> tuple[int, int, str]:
    """HTTP status, number and reason of a refusal: over REST the number is the status once more."""
    error = answer.json()["error"]
    details = error.get("details", error.get("data"))
    reason = details["reason"] if isinstance(details, dict) else details[0]["reason"]
    return answer.status_code, error["code"], reason


def body_of(block: dict[str, str]) -> Any:
    """What a block's data says."""
    return json.loads(block["data"])


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
