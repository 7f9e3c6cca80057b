"""The registry: (type, version) -> contract, and the one judgement whether an event fits (PROTOCOL §3).

Publishers ask here before they store and ingest asks again; the gateway's data path never does.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from contracts.envelope import LARGEST_EVENT_BYTES, MESSAGE_ID, Publication
from contracts.errors import ContractError
from contracts.events import market_v1
from contracts.events.cloudevent import CloudEvent
from contracts.subjects import MARKET, PLACEHOLDER, InvalidSubject, Layout

Model = type[BaseModel]


@dataclass(frozen=True, slots=True)
class Violation:
    """One failing field: a JSON pointer (RFC 6901) into the event, and what is wrong there."""

    pointer: str
    message: str


class ContractViolation(ContractError):
    """The event does not fit its contract; `violations` says where."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.pointer or '/'}: {v.message}" for v in self.violations))


@dataclass(frozen=True)
class Contract:
    """One version of one type of event."""

    type: str
    version: int
    model: Model
    stream: str
    layout: Layout
    # Subject token -> the `data` field that must equal it.
    keys: Mapping[str, str]
    # Tokens with a value of their own, as the kind of aggregate.
    fixed: Mapping[str, str]
    # A whole `data` that fits, for the schema's example.
    example: Mapping[str, Any]

    @property
    def urn(self) -> str:
        """The `dataschema` of its events."""
        return f"urn:a2a:contract:{self.type}:{self.version}"

    def subject_of(self, data: Mapping[str, Any]) -> str:
        """The one subject that an event with this `data` may have.

        Raises:
            InvalidSubject: a key field is not an id.
            KeyError: a key field is missing.
        """
        keys = {token: value for token, value in self.fixed.items() if value != PLACEHOLDER}
        return self.layout.build({**keys, **{token: data[name] for token, name in self.keys.items()}})


def pointer(location: Iterable[str | int]) -> str:
    """The JSON pointer of a path of keys and indices (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _violations(error: ValidationError, prefix: tuple[str, ...] = ()) -> list[Violation]:
    return [Violation(pointer((*prefix, *found["loc"])), found["msg"]) for found in error.errors()]


class Registry:
    """All contracts that one process knows."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._contracts = {(contract.type, contract.version): contract for contract in contracts}

    def __iter__(self) -> Iterator[Contract]:
        return iter(self._contracts.values())

    def find(self, kind: str, version: int) -> Contract | None:
        """The contract of this type and version, or None."""
        return self._contracts.get((kind, version))

    def check(self, document: object) -> tuple[Contract, CloudEvent]:
        """Judge one decoded CloudEvent against its contract and its subject.

        Raises:
            ContractViolation: names every failing field by JSON pointer.
        """
        try:
            event = CloudEvent.model_validate(document)
        except ValidationError as error:
            raise ContractViolation(_violations(error)) from error
        contract = self._contract_of(event)
        try:
            data = contract.model.model_validate(event.data)
        except ValidationError as error:
            raise ContractViolation(_violations(error, ("data",))) from error
        found = list(_misplaced(contract, event, data))
        if event.dataschema != contract.urn:
            found.append(Violation("/dataschema", f"must be {contract.urn}"))
        if found:
            raise ContractViolation(found)
        return contract, event

    def publication(self, document: Mapping[str, Any]) -> Publication:
        """The event as it is stored: subject, headers and bytes, after `check`.

        Raises:
            ContractViolation: the event does not fit, is larger than 256 KiB, or is no JSON in UTF-8 (NaN, say).
        """
        contract, event = self.check(document)
        try:
            payload = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise ContractViolation([Violation("", f"cannot be written as JSON: {error}")]) from error
        if len(payload) > LARGEST_EVENT_BYTES:
            raise ContractViolation(
                [Violation("", f"the event has {len(payload)} bytes; {LARGEST_EVENT_BYTES} are allowed")]
            )
        return Publication(event.subject, {MESSAGE_ID: event.id}, payload, contract.stream)

    def _contract_of(self, event: CloudEvent) -> Contract:
        contract = self.find(event.type, event.schemaversion)
        if contract is not None:
            return contract
        versions = sorted(version for kind, version in self._contracts if kind == event.type)
        if versions:
            known = ", ".join(map(str, versions))
            raise ContractViolation(
                [Violation("/schemaversion", f"{event.type} has version {known}, not {event.schemaversion}")]
            )
        raise ContractViolation([Violation("/type", f"no contract is registered for {event.type}")])


def _misplaced(contract: Contract, event: CloudEvent, data: BaseModel) -> Iterator[Violation]:
    """Where the subject and the data disagree."""
    try:
        tokens = dict(zip(contract.layout.tokens, contract.layout.parse(event.subject), strict=True))
    except InvalidSubject as error:
        yield Violation("/subject", str(error))
        return
    for token, value in contract.fixed.items():
        if tokens[token] != value:
            yield Violation("/subject", f"{contract.type} has {value!r} as its {token}, not {tokens[token]!r}")
    for token, name in contract.keys.items():
        value = getattr(data, name)
        if tokens[token] != value:
            yield Violation(pointer(("data", name)), f"must equal the subject's {token}, {tokens[token]!r}")


_DEAL_KEYS = {"intent": "intent_id", "buyer": "buyer_id", "node": "node_id"}
_DEAL = {"intent_id": "intent_7f3a", "buyer_id": "buyer_ada", "node_id": "node_oslo"}
_PRICE = {"amount": "1250.00", "currency": "EUR"}


def _market(kind: str, model: Model, aggregate: str, id_field: str, example: Mapping[str, Any]) -> Contract:
    keys = {**_DEAL_KEYS, "aggregate_id": id_field}
    return Contract(kind, 1, model, "MARKET", MARKET, keys, {"aggregate": aggregate}, {**_DEAL, **example})


MARKET_EVENTS = (
    Contract(
        "INTENT_CREATED",
        1,
        market_v1.IntentCreated,
        "MARKET",
        MARKET,
        {"intent": "intent_id", "buyer": "buyer_id", "aggregate_id": "intent_id"},
        {"aggregate": "intent", "node": PLACEHOLDER},
        {
            "intent_id": "intent_7f3a",
            "buyer_id": "buyer_ada",
            "title": "200 hours of GPU time",
            "quantity": 200,
            "budget": {"amount": "1500.00", "currency": "EUR"},
            "expires_at": "2026-12-01T12:00:00Z",
        },
    ),
    _market(
        "QUOTE_RECEIVED",
        market_v1.QuoteReceived,
        "quote",
        "quote_id",
        {"quote_id": "quote_91c0", "price": _PRICE, "valid_until": "2026-11-30T12:00:00Z"},
    ),
    _market(
        "NEGOTIATION_STARTED",
        market_v1.NegotiationStarted,
        "negotiation",
        "negotiation_id",
        {
            "negotiation_id": "negotiation_22d1",
            "quote_id": "quote_91c0",
            "opening_offer": {"amount": "1100.00", "currency": "EUR"},
            "expires_at": "2026-11-29T12:00:00Z",
        },
    ),
    _market(
        "ORDER_CREATED",
        market_v1.OrderCreated,
        "order",
        "order_id",
        {"order_id": "order_5be8", "negotiation_id": "negotiation_22d1", "total": _PRICE},
    ),
    _market(
        "PAYMENT_SUCCEEDED",
        market_v1.PaymentSucceeded,
        "payment",
        "order_id",
        {"order_id": "order_5be8", "amount": _PRICE, "reference": "psp-2026-000417"},
    ),
)

REGISTRY = Registry(MARKET_EVENTS)
