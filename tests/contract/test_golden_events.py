"""Events as they were once stored, of every version: never edited, and for ever read.

A golden event is added with its contract, and its line in SHA256SUMS with it
(`cd tests/contract/golden && sha256sum *.json > SHA256SUMS`); a line that changes is a promise broken.
"""

import hashlib
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from contracts.publishing import read
from contracts.registry import REGISTRY
from contracts.schemas.__main__ import FOLDER
from tests.contract.golden_events import FILES, GOLDEN, document

EACH_EVENT = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_every_version_of_every_event_has_golden_events_whole_and_least() -> None:
    wanted = {f"{one.type}.{one.version}.{form}.json" for one in REGISTRY for form in ("whole", "least")}
    assert wanted <= {path.name for path in FILES}


def test_no_golden_event_was_ever_edited() -> None:
    noted = {name: digest for digest, name in map(str.split, (GOLDEN / "SHA256SUMS").read_text().splitlines())}
    assert noted == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES}


@EACH_EVENT
def test_a_golden_event_still_fits_its_contract_and_its_committed_schema(path: Path) -> None:
    event = document(path)
    assert REGISTRY.publication(event).subject == event["subject"]
    schema = json.loads((FOLDER / f"{event['type']}.{event['schemaversion']}.json").read_text())
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(event)


@EACH_EVENT
def test_a_golden_event_is_read_as_the_newest_version(path: Path) -> None:
    event = document(path)
    found = read(path.read_bytes())
    assert found.contract is REGISTRY.newest(event["type"])
    assert isinstance(found.data, found.contract.model)
    assert (found.envelope.id, found.envelope.subject) == (event["id"], event["subject"])


@EACH_EVENT
def test_what_a_golden_event_becomes_fits_the_newest_contract_as_if_it_had_been_published(path: Path) -> None:
    newest = json.loads(read(path.read_bytes()).envelope.model_dump_json(exclude_unset=True))
    assert REGISTRY.check(newest)[0] is REGISTRY.newest(newest["type"])


def test_nothing_of_a_whole_golden_event_is_lost_on_reading() -> None:
    for path in GOLDEN.glob("*.whole.json"):
        event = document(path)
        if REGISTRY.newest(event["type"]) is REGISTRY.find(event["type"], event["schemaversion"]):
            assert read(path.read_bytes()).data.model_dump(mode="json") == event["data"]
