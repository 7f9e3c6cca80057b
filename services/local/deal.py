"""A made-up deal: what its buyer, its node and the payment provider ask of the services, one request after another.

Pure: a deal is a generator that yields requests and is sent the answers, so the ids are the services' own. A request
has a key of its own, so that one whose answer was lost can be sent again.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from contracts.principal import BUYER, NODE

Story = Generator["Request", Mapping[str, Any], None]
PROVIDER = "provider"
"""Who bears no token: the payment provider signs what it sends."""


class Ending(Enum):
    """How a deal ends."""

    PAID = "paid"
    DECLINED = "declined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a service."""

    service: str
    path: str
    # Role and id of who asks.
    role: str
    sub: str
    # Unlike that of any other request.
    key: str
    # None for a query.
    body: Mapping[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deal:
    """Who deals with whom over what; `key` makes its requests unlike any other deal's."""

    key: str
    buyer: str
    node: str
    title: str
    # In whole units of the currency.
    asked: int
    agreed: int
    ending: Ending = Ending.PAID
    currency: str = "EUR"

    def story(self) -> Story:
        """The requests, from the intent to the order's payment."""
        intent = yield self._buyer("/v1/intents", "intent", title=self.title, budget=self._money(self.asked))
        at = f"/v1/intents/{intent['id']}"
        quote = yield self._node(f"{at}/quotes", "quote", price=self._money(self.asked))
        price = self._money(self.agreed * 9 // 10)
        negotiation = yield self._buyer(f"{at}/negotiations", "start", quote_id=quote["id"], price=price)
        at = f"/v1/negotiations/{negotiation['id']}"
        yield self._node(f"{at}/offers", "offer", price=self._money(self.agreed))
        if self.ending is Ending.REJECTED:
            yield self._buyer(f"{at}/reject", "reject", reason="too dear")
            return
        yield self._buyer(f"{at}/accept", "accept")
        found = yield Request("deals", at, BUYER, self.buyer, self._key("look"), None)
        yield self._payment(found["state"]["order_id"])

    def _payment(self, order_id: str) -> Request:
        paid = self.ending is Ending.PAID
        body = {"status": "succeeded" if paid else "failed", "reference": f"psp-{self.key}"}
        if not paid:
            body["reason"] = "card declined"
        return Request("payments", f"/v1/payments/{order_id}/result", PROVIDER, PROVIDER, self._key("result"), body)

    def _buyer(self, path: str, step: str, **body: Any) -> Request:
        return Request("deals", path, BUYER, self.buyer, self._key(step), body)

    def _node(self, path: str, step: str, **body: Any) -> Request:
        return Request("deals", path, NODE, self.node, self._key(step), body)

    def _key(self, step: str) -> str:
        return f"{self.key}-{step}"

    def _money(self, units: int) -> dict[str, str]:
        return {"amount": f"{units}.00", "currency": self.currency}
