"""Write the JSON Schemas from the registry, or with --check say which of them are not as the registry has them."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from contracts.contract import Contract
from contracts.events.cloudevent import CloudEvent
from contracts.registry import REGISTRY

FOLDER = Path(__file__).parent


def example(contract: Contract) -> dict[str, Any]:
    """A whole CloudEvent that fits the contract."""
    return {
        "specversion": "1.0",
        "id": "0199e2f4-6d1c-7c3a-9a57-3f2f6c0d8e11",
        "source": "urn:a2a:service:deals",
        "type": contract.type,
        "time": "2026-11-20T10:00:00Z",
        "subject": contract.subject_of(contract.example),
        "dataschema": contract.urn,
        "datacontenttype": "application/json",
        "schemaversion": contract.version,
        "correlationid": "intent_7f3a",
        "data": dict(contract.example),
    }


def schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema of the whole CloudEvent, `data` included."""
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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": contract.urn,
        "title": f"{contract.type} version {contract.version}",
        "description": data.get("description", ""),
        "type": "object",
        "properties": properties,
        "required": sorted(dict.fromkeys(required)),
        "$defs": definitions,
        "x-subject": {
            "pattern": ".".join((contract.layout.prefix, *(f"<{token}>" for token in contract.layout.tokens))),
            "fixed": dict(contract.fixed),
            "keys": {token: f"/data/{name}" for token, name in contract.keys.items()},
        },
        "examples": [example(contract)],
    }


def rendered() -> dict[str, str]:
    """File name -> text, for every contract."""
    return {f"{c.type}.{c.version}.json": json.dumps(schema(c), indent=2, ensure_ascii=False) + "\n" for c in REGISTRY}


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them; 1 where a check fails."""
    parser = argparse.ArgumentParser(prog="python -m contracts.schemas", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where a committed schema is out of date"
    )
    options = parser.parse_args(arguments)
    stale = []
    for name, text in rendered().items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not options.check:
            path.write_text(text)
    for name in stale:
        print(f"{name}: {'not as the registry has it; run `task contracts`' if options.check else 'written'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
