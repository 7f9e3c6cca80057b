"""What buyers, nodes and the payment provider ask of deals, orders and payments, as requests that a test may send."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.harness.tokens import bearer

WEBHOOK_KEY = b"a payment provider's key, of the tests alone"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(WEBHOOK_KEY).decode()


def euros(amount: str) -> dict[str, str]:
    """Money."""
    return {"amount": amount, "currency": "EUR"}


def signed(body: bytes, *keys: bytes, webhook_id: str | None = None, age: float = 0) -> dict[str, str]:
    """The headers of Standard Webhooks, with one signature for each key, made apart from the code under test."""
    given = webhook_id or f"msg_{uuid.uuid4().hex}"
    at = str(int(time.time() - age))
    said = f"{given}.{at}.".encode() + body
    made = [hmac.new(key, said, hashlib.sha256).digest() for key in keys or (WEBHOOK_KEY,)]
    signatures = " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)
    return {"webhook-id": given, "webhook-timestamp": at, "webhook-signature": signatures}


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def now(self, timeout: float = 15) -> httpx.Response:
        """Send it, and wait for the answer."""
        return httpx.request(self.method, self.url, headers=dict(self.headers), content=self.body, timeout=timeout)

    async def by(self, client: httpx.AsyncClient) -> httpx.Response:
        """Send it through `client`."""
        return await client.request(self.method, self.url, headers=dict(self.headers), content=self.body)


@dataclass(frozen=True)
class Desk:
    """Where deals are made: the addresses of the services."""

    urls: Mapping[str, str]
    webhook_key: bytes = field(default=WEBHOOK_KEY)

    def command(self, service: str, path: str, role: str, sub: str, body: Any = None, *, key: str | None = None) -> Ask:
        """A command of somebody; a key of its own unless one is given."""
        headers = {
            **bearer(sub, role),
            "Content-Type": "application/json",
            "Idempotency-Key": key or uuid.uuid4().hex,
        }
        return Ask("POST", self.urls[service] + path, headers, json.dumps({} if body is None else body).encode())

    def query(self, service: str, path: str, role: str, sub: str) -> Ask:
        """A query of somebody."""
        return Ask("GET", self.urls[service] + path, bearer(sub, role))

    def intent(self, buyer: str, *, key: str | None = None, **body: Any) -> Ask:
        return self.command("deals", "/v1/intents", "buyer", buyer, {"title": "an hour", **body}, key=key)

    def cancel_intent(self, buyer: str, intent: str, *, role: str = "buyer", key: str | None = None) -> Ask:
        return self.command("deals", f"/v1/intents/{intent}/cancel", role, buyer, key=key)

    def quote(self, node: str, intent: str, *, amount: str = "100.00", key: str | None = None, **body: Any) -> Ask:
        given = {"price": euros(amount), **body}
        return self.command("deals", f"/v1/intents/{intent}/quotes", "node", node, given, key=key)

    def withdraw(self, node: str, quote: str, *, role: str = "node", key: str | None = None) -> Ask:
        return self.command("deals", f"/v1/quotes/{quote}/withdraw", role, node, key=key)

    def start(
        self,
        sub: str,
        intent: str,
        quote: str,
        *,
        role: str = "buyer",
        amount: str = "90.00",
        key: str | None = None,
        **body: Any,
    ) -> Ask:
        given = {"quote_id": quote, "price": euros(amount), **body}
        return self.command("deals", f"/v1/intents/{intent}/negotiations", role, sub, given, key=key)

    def offer(
        self, role: str, sub: str, negotiation: str, *, amount: str = "95.00", key: str | None = None, **body: Any
    ) -> Ask:
        given = {"price": euros(amount), **body}
        return self.command("deals", f"/v1/negotiations/{negotiation}/offers", role, sub, given, key=key)

    def accept(self, role: str, sub: str, negotiation: str, *, key: str | None = None) -> Ask:
        return self.command("deals", f"/v1/negotiations/{negotiation}/accept", role, sub, key=key)

    def reject(self, role: str, sub: str, negotiation: str, *, key: str | None = None, **body: Any) -> Ask:
        return self.command("deals", f"/v1/negotiations/{negotiation}/reject", role, sub, body, key=key)

    def cancel_order(self, role: str, sub: str, order: str, *, key: str | None = None) -> Ask:
        return self.command("orders", f"/v1/orders/{order}/cancel", role, sub, key=key)

    def result(
        self,
        order: str,
        status: str = "succeeded",
        *,
        reference: str = "psp-1",
        headers: Mapping[str, str] | None = None,
        webhook_id: str | None = None,
        **body: Any,
    ) -> Ask:
        """The payment provider's word, signed unless `headers` are given."""
        said = json.dumps({"status": status, "reference": reference, **body}).encode()
        given = signed(said, self.webhook_key, webhook_id=webhook_id) if headers is None else headers
        url = f"{self.urls['payments']}/v1/payments/{order}/result"
        return Ask("POST", url, {"Content-Type": "application/json", **given}, said)
