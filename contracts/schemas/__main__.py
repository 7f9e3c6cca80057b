"""Write the JSON Schemas and the AsyncAPI document from the registry, or with --check say what is out of date.

A schema that was committed is published: what would break its readers or writers is refused, and then nothing is
written at all. `--domain MODULE --folder FOLDER` does the same for the events of a domain of one's own.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contracts.contract import Contract
from contracts.domain import MARKET_DOMAIN, Domain
from contracts.registry import REGISTRY
from contracts.schemas import asyncapi
from contracts.schemas.compatibility import changes
from contracts.schemas.event import file_name, misfits, schema

FOLDER = Path(__file__).parent
ASYNCAPI = "asyncapi.json"
_SCHEMA_FILE = re.compile(r"([A-Z][A-Z0-9_]*)\.([0-9]+)\.json", re.ASCII)


def documents(contracts: Iterable[Contract]) -> dict[str, Any]:
    """File name -> JSON Schema, for every contract."""
    return {file_name(contract): schema(contract) for contract in contracts}


def text_of(document: Any) -> str:
    """A document as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def refusals(present: Mapping[str, Any], folder: Path) -> list[str]:
    """What may not be done to the schemas in `folder`, a sentence each."""
    found = []
    for path in sorted(folder.glob("*.json")):
        named = _SCHEMA_FILE.fullmatch(path.name)
        if named is None:
            continue
        kind, version = named[1], int(named[2])
        if path.name not in present:
            found.append(f"{kind} version {version} was removed: events of it are stored; keep it beside a new version")
            continue
        for change in changes(json.loads(path.read_text()), present[path.name]):
            where, advice = change.pointer or "the event", f"make it a new version, {_next_version(kind, present)}"
            found.append(f"{kind} version {version}: {where} {change.what}; {advice}")
    return found


def _next_version(kind: str, present: Mapping[str, Any]) -> str:
    named = (_SCHEMA_FILE.fullmatch(name) for name in present)
    return f"{kind}.{1 + max(int(one[2]) for one in named if one is not None and one[1] == kind)}"


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them; 1 where a check fails or a change is refused."""
    parser = argparse.ArgumentParser(prog="python -m contracts.schemas", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where a committed file is out of date"
    )
    parser.add_argument("--domain", metavar="MODULE", help="the module of another domain; needs --folder")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="where that domain's schemas are committed")
    options = parser.parse_args(arguments)
    if (options.domain is None) is not (options.folder is None):
        parser.error("--domain and --folder go together")
    folder = options.folder or FOLDER
    try:
        events = () if options.domain is None else _events_of(options.domain)
    except (ImportError, AttributeError) as error:
        parser.error(f"--domain {options.domain}: {error}")
    present: dict[str, Any] = {}
    refused = list(misfits(events))
    if not refused:
        present = _of_market() if options.domain is None else documents(events)
        refused = refusals(present, folder)
    for line in refused:
        print(f"error: {line}", file=sys.stderr)
    if refused:
        return 1
    stale = [name for name, document in present.items() if not _is(folder / name, text_of(document))]
    for name in stale:
        if not options.check:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text_of(present[name]))
        print(f"{name}: {'not as the registry has it; run `task contracts`' if options.check else 'written'}")
    return 1 if options.check and stale else 0


def _of_market() -> dict[str, Any]:
    return {**documents(REGISTRY), ASYNCAPI: asyncapi.document(MARKET_DOMAIN, REGISTRY)}


def _events_of(module: str) -> tuple[Contract, ...]:
    domain: Domain = importlib.import_module(module).DOMAIN
    return domain.events


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
