"""A made-up deal: the five facts from intent to payment, as CloudEvents that fit their contracts.

Pure: ids, times and prices come in. An event's id follows from the deal and the step, so that a story
told twice is stored once.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.registry import REGISTRY

SOURCE = "urn:a2a:service:local-traffic"
STEPS = 5
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, SOURCE)


@dataclass(frozen=True, slots=True)
class Deal:
    """Who deals with whom over what; `key` makes its ids unlike any other deal's."""

    key: str
    buyer: str
    node: str
    title: str
    # In whole units of the currency.
    asked: int
    agreed: int
    currency: str = "EUR"

    def facts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The type and the data of each event, in order."""
        intent = {"intent_id": f"intent_{self.key}", "buyer_id": self.buyer}
        parties = {**intent, "node_id": self.node}
        quote, negotiation, order = (f"{kind}_{self.key}" for kind in ("quote", "negotiation", "order"))
        yield "INTENT_CREATED", {**intent, "title": self.title, "budget": self._money(self.asked)}
        yield "QUOTE_RECEIVED", {**parties, "quote_id": quote, "price": self._money(self.asked)}
        yield (
            "NEGOTIATION_STARTED",
            {**parties, "negotiation_id": negotiation, "quote_id": quote, "opening_offer": self._money(self.agreed)},
        )
        total = self._money(self.agreed)
        yield "ORDER_CREATED", {**parties, "order_id": order, "negotiation_id": negotiation, "total": total}
        yield "PAYMENT_SUCCEEDED", {**parties, "order_id": order, "amount": total, "reference": f"psp-{self.key}"}

    def event(self, step: int, at: datetime) -> dict[str, Any]:
        """The CloudEvent of one step, from 0 to `STEPS` - 1."""
        kind, data = list(self.facts())[step]
        cause = {"causationid": self._event_id(step - 1)} if step else {}
        return document(kind, data, event_id=self._event_id(step), at=at, attributes=cause)

    def _event_id(self, step: int) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.key}/{step}"))

    def _money(self, units: int) -> dict[str, str]:
        return {"amount": f"{units}.00", "currency": self.currency}


def document(
    kind: str, data: dict[str, Any], *, event_id: str, at: datetime, attributes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A whole CloudEvent of version 1 of `kind`."""
    contract = REGISTRY.find(kind, 1)
    if contract is None:
        raise LookupError(f"no contract for {kind}")
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": kind,
        "time": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "subject": contract.subject_of(data),
        "dataschema": contract.urn,
        "datacontenttype": "application/json",
        "schemaversion": 1,
        "correlationid": data["intent_id"],
        **(attributes or {}),
        "data": data,
    }
