"""Valid CloudEvents of every registered type, with fresh ids unless a test names its own."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.contract import Contract
from contracts.registry import REGISTRY

TYPES = tuple(dict.fromkeys(contract.type for contract in REGISTRY))
# The shortest deal there is, in its order.
STORY = ("INTENT_CREATED", "QUOTE_RECEIVED", "NEGOTIATION_STARTED", "ORDER_CREATED", "PAYMENT_SUCCEEDED")
# Until when something stands; an example's day passes, an event of today still stands tomorrow.
_DEADLINES = frozenset({"expires_at", "valid_until", "due_at"})


def fresh(prefix: str) -> str:
    """An id that nobody else uses: tests share one server."""
    return f"{prefix}_{uuid.uuid4().hex[:16]}"


def event(
    kind: str,
    *,
    version: int | None = None,
    event_id: str | None = None,
    data: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
    **ids: str,
) -> dict[str, Any]:
    """One CloudEvent document of type `kind`, of the newest version unless another is named.

    `ids` are keys of the deal without their `_id`: `event("ORDER_CREATED", buyer="b1", order="o1")`;
    those not named are fresh. The subject follows from them. `data` and `attributes` replace or add
    members of the payload and of the envelope afterwards, to make an event that does not fit.
    """
    contract = _contract(kind, version)
    payload = _standing(contract.example)
    for name in payload:
        if name.endswith("_id"):
            payload[name] = ids.pop(name.removesuffix("_id"), None) or fresh(name.removesuffix("_id"))
    if ids:
        raise ValueError(f"{kind} has no {', '.join(f'{name}_id' for name in ids)}")
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()) if event_id is None else event_id,
        "source": "urn:a2a:service:tests",
        "type": kind,
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "subject": contract.subject_of(payload, contract.given),
        "dataschema": contract.urn,
        "datacontenttype": "application/json",
        "schemaversion": contract.version,
        "data": {**payload, **(data or {})},
        **(attributes or {}),
    }


def _standing(example: Mapping[str, Any]) -> dict[str, Any]:
    """The example, its deadlines a day from now."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        name: tomorrow if name in _DEADLINES else _standing(value) if isinstance(value, Mapping) else value
        for name, value in example.items()
    }


def deal(**ids: str) -> list[dict[str, Any]]:
    """One event of each type of the story, all of the same deal."""
    names = ("intent", "buyer", "node", "quote", "negotiation", "order")
    known = {name: ids.get(name) or fresh(name) for name in names}
    found = []
    for kind in STORY:
        wanted = {name.removesuffix("_id") for name in _contract(kind).example if name.endswith("_id")}
        ids_of_kind: Any = {name: value for name, value in known.items() if name in wanted}
        found.append(event(kind, **ids_of_kind))
    return found


def _contract(kind: str, version: int | None = None) -> Contract:
    contract = REGISTRY.newest(kind) if version is None else REGISTRY.find(kind, version)
    if contract is None:
        raise LookupError(f"no contract for {kind}")
    return contract
