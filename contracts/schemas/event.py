"""The JSON Schema of one contract: the whole CloudEvent, `data` included, with an example (PROTOCOL §3)."""

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.contract import Contract
from contracts.errors import ContractError
from contracts.events.cloudevent import CloudEvent
from contracts.registry import REGISTRY, Registry


def file_name(contract: Contract) -> str:
    """Where the contract's schema is committed."""
    return f"{contract.type}.{contract.version}.json"


def example(contract: Contract) -> dict[str, Any]:
    """A whole CloudEvent that fits the contract."""
    return {
        "specversion": "1.0",
        "id": "0199e2f4-6d1c-7c3a-9a57-3f2f6c0d8e11",
        "source": f"urn:a2a:service:{'plans' if contract.stream == 'PLANS' else 'deals'}",
        "type": contract.type,
        "time": "2026-11-20T10:00:00Z",
        "subject": contract.subject_of(contract.example, contract.given),
        "dataschema": contract.urn,
        "datacontenttype": "application/json",
        "schemaversion": contract.version,
        "correlationid": contract.example.get("contextId", "intent_7f3a"),
        "data": dict(contract.example),
    }


def schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema of the contract's events."""
    envelope = CloudEvent.model_json_schema(mode="serialization")
    data = contract.model.model_json_schema(mode="serialization", ref_template="#/$defs/{model}")
    definitions = {**envelope.pop("$defs", {}), **data.pop("$defs", {})}
    properties = {
        **envelope["properties"],
        "type": {"const": contract.type},
        "schemaversion": {"const": contract.version},
        "dataschema": {"const": contract.urn},
        "data": data,
    }
    required = [*envelope["required"], "specversion", "datacontenttype"]
    deprecated = {"deprecated": True} if contract.deprecated else {}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": contract.urn,
        "title": f"{contract.type} version {contract.version}",
        "description": data.get("description", ""),
        **deprecated,
        "type": "object",
        "properties": properties,
        "required": sorted(dict.fromkeys(required)),
        "$defs": definitions,
        "x-subject": {
            "pattern": ".".join((contract.layout.prefix, *(f"<{token}>" for token in contract.layout.tokens))),
            "fixed": dict(contract.fixed),
            "keys": {token: f"/data/{name}" for token, name in contract.keys.items()},
            **({"given": sorted(contract.given)} if contract.given else {}),
        },
        "examples": [example(contract)],
    }


def misfits(events: Sequence[Contract]) -> Iterator[str]:
    """Why events of one's own cannot be beside the market's, or an example is none, a sentence each."""
    try:
        registry = Registry([*REGISTRY, *events])
    except ValueError as error:
        yield str(error)
        return
    for contract in events:
        try:
            registry.check(example(contract))
        except KeyError as error:
            yield f"{contract.type} version {contract.version}: the example lacks {error}"
        except ContractError as error:
            yield f"{contract.type} version {contract.version}: the example does not fit: {error}"
