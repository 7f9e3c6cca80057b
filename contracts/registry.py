"""The registry: (type, version) -> contract, and the one judgement whether an event fits (PROTOCOL §3).

Publishers ask here before they store and ingest asks again; the gateway's data path never does.
Readers ask here for an event as its newest version has it, whatever version was stored.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from contracts.contract import Contract, ContractViolation, Event, Violation, pointer
from contracts.envelope import LARGEST_EVENT_BYTES, MESSAGE_ID, Publication
from contracts.events.cloudevent import CloudEvent
from contracts.market import MARKET_EVENTS
from contracts.plans import PLAN_EVENTS
from contracts.subjects import PLACEHOLDER, InvalidSubject


def _violations(error: ValidationError, prefix: tuple[str, ...] = ()) -> list[Violation]:
    return [Violation(pointer((*prefix, *found["loc"])), found["msg"]) for found in error.errors()]


class Registry:
    """All contracts that one process knows."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._contracts: dict[tuple[str, int], Contract] = {}
        for contract in contracts:
            if self._contracts.setdefault((contract.type, contract.version), contract) is not contract:
                raise ValueError(f"{contract.type} version {contract.version} is declared twice")
        self._newest: dict[str, Contract] = {}
        for (kind, _), contract in sorted(self._contracts.items(), key=lambda item: item[0]):
            before = self._newest.get(kind)
            if before is not None and (before.version + 1 != contract.version or before.upcast is None):
                raise ValueError(f"{kind}: version {before.version} has no upcaster to version {contract.version}")
            self._newest[kind] = contract
        for contract in self._newest.values():
            if contract.upcast is not None:
                raise ValueError(f"{contract.type}: the newest version, {contract.version}, has an upcaster")

    def __iter__(self) -> Iterator[Contract]:
        return iter(self._contracts.values())

    def find(self, kind: str, version: int) -> Contract | None:
        """The contract of this type and version, or None."""
        return self._contracts.get((kind, version))

    def newest(self, kind: str) -> Contract | None:
        """The contract of this type's newest version, or None."""
        return self._newest.get(kind)

    def upcast(self, event: CloudEvent) -> CloudEvent:
        """The event as its type's newest version has it, version by version; one of the newest as it is.

        Raises:
            ContractViolation: no contract is registered for its type and version.
        """
        contract = self._contract_of(event)
        while contract.upcast is not None:
            data = contract.upcast(event)
            contract = self._contracts[contract.type, contract.version + 1]
            update = {"schemaversion": contract.version, "dataschema": contract.urn, "data": data}
            event = event.model_copy(update=update)
        return event

    def check(self, document: object) -> tuple[Contract, CloudEvent]:
        """Judge one decoded CloudEvent against its contract and its subject.

        Raises:
            ContractViolation: names every failing field by JSON pointer.
        """
        contract, event, _ = self._judged(document)
        return contract, event

    def read(self, document: object) -> Event:
        """One stored event as the newest version of its type has it, whatever version was stored.

        Raises:
            ContractViolation: the event does not fit the contract that it names.
        """
        contract, envelope, data = self._judged(document)
        if contract.upcast is not None:
            envelope = self.upcast(envelope)
            contract = self._contract_of(envelope)
            data = contract.model.model_validate(envelope.data)
        return Event(contract, envelope, data)

    def _judged(self, document: object) -> tuple[Contract, CloudEvent, BaseModel]:
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
        return contract, event, data

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
    for token in contract.given:
        if tokens[token] == PLACEHOLDER:
            yield Violation("/subject", f"{contract.type} has an id as its {token}, not {PLACEHOLDER!r}")
    for token, name in contract.keys.items():
        value = getattr(data, name)
        if tokens[token] != value:
            yield Violation(pointer(("data", name)), f"must equal the subject's {token}, {tokens[token]!r}")


REGISTRY = Registry([*MARKET_EVENTS, *PLAN_EVENTS])
