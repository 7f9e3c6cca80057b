"""The committed schemas are what publishers in other languages build on: they say what the registry judges."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

import contracts.schemas
from contracts.contract import Contract, ContractViolation
from contracts.domain import MARKET_DOMAIN
from contracts.registry import REGISTRY
from contracts.schemas import __main__ as generator
from contracts.schemas.asyncapi import document
from tests.harness.events import event

FOLDER = Path(contracts.schemas.__path__[0])
EACH_CONTRACT = pytest.mark.parametrize("contract", list(REGISTRY), ids=lambda one: f"{one.type}.{one.version}")


def committed(contract: Contract) -> Any:
    return json.loads((FOLDER / f"{contract.type}.{contract.version}.json").read_text())


def takes(contract: Contract, document: Any) -> bool:
    return bool(Draft202012Validator(committed(contract), format_checker=FormatChecker()).is_valid(document))


def test_the_committed_files_are_exactly_what_the_registry_renders() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == rendered()


@EACH_CONTRACT
def test_a_schema_is_a_schema(contract: Contract) -> None:
    Draft202012Validator.check_schema(committed(contract))


@EACH_CONTRACT
def test_an_example_fits_its_schema_and_its_contract(contract: Contract) -> None:
    (example,) = committed(contract)["examples"]
    assert takes(contract, example)
    assert REGISTRY.publication(example).subject == example["subject"]


@EACH_CONTRACT
def test_what_a_publisher_sends_fits_the_schema(contract: Contract) -> None:
    assert takes(contract, event(contract.type, version=contract.version))


@EACH_CONTRACT
def test_a_required_field_left_out_fits_neither(contract: Contract) -> None:
    whole = event(contract.type, version=contract.version)
    schema = committed(contract)
    for field in schema["properties"]["data"]["required"]:
        document = copy.deepcopy(whole)
        del document["data"][field]
        assert not takes(contract, document)
        with pytest.raises(ContractViolation) as refused:
            REGISTRY.publication(document)
        assert [each.pointer for each in refused.value.violations] == [f"/data/{field}"]


@EACH_CONTRACT
@pytest.mark.parametrize("value", [None, 7, True, [], {}, "", " ", "a.b", 1.5])
def test_what_the_schema_refuses_the_registry_refuses_too(contract: Contract, value: Any) -> None:
    whole = event(contract.type, version=contract.version)
    for part, fields in (("", list(whole)), ("data", list(whole["data"]))):
        for field in fields:
            document = copy.deepcopy(whole)
            (document[part] if part else document)[field] = value
            if not takes(contract, document):
                with pytest.raises(ContractViolation):
                    REGISTRY.publication(document)


def rendered() -> dict[str, str]:
    asyncapi = {"asyncapi.json": document(MARKET_DOMAIN, REGISTRY)}
    made = {**generator.documents(REGISTRY), **asyncapi}
    return {name: generator.text_of(one) for name, one in made.items()}


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_nothing_is_written_and_nothing_told_where_all_is_up_to_date(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert generator.main(arguments) == 0
    assert capsys.readouterr().out == ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    return tmp_path


def test_a_check_names_what_is_out_of_date_and_leaves_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--check"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == list(rendered())
    assert list(folder.iterdir()) == []


def test_a_run_writes_what_is_missing_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main([]) == 0
    assert capsys.readouterr().out.count(": written") == len(rendered())
    assert {path.name: path.read_text() for path in folder.iterdir()} == rendered()
    assert generator.main(["--check"]) == 0


def committed_in(folder: Path, name: str, **changed: Any) -> str:
    """Commit the schema `name` with fields of its data as they are in `changed`, or without those that are None."""
    schema = json.loads(rendered()[name])
    for field, value in changed.items():
        data = schema["properties"]["data"]
        data["properties"][field] = value
        if value is None:
            del data["properties"][field]
            data["required"] = [name for name in data["required"] if name != field]
    text = generator.text_of(schema)
    (folder / name).write_text(text)
    return text


def test_an_optional_field_that_is_added_is_written(folder: Path) -> None:
    committed_in(folder, "PAYMENT_SUCCEEDED.1.json", webhook_id=None)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert (folder / "PAYMENT_SUCCEEDED.1.json").read_text() == rendered()["PAYMENT_SUCCEEDED.1.json"]


@pytest.mark.parametrize("arguments", [["--check"], []])
@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("ORDER_CREATED.1.json", {"note": {"type": "string"}}, "ORDER_CREATED version 1: /data/note was removed"),
        ("ORDER_CREATED.1.json", {"total": {"type": "string"}}, "ORDER_CREATED version 1: /data/total was retyped"),
        (
            "ORDER_CREATED.1.json",
            {"order_id": {"type": "string"}},
            "ORDER_CREATED version 1: /data/order_id was narrowed",
        ),
        ("ORDER_CREATED.1.json", {"order_id": None}, "ORDER_CREATED version 1: /data/order_id is newly required"),
    ],
)
def test_what_needs_a_new_version_is_refused_by_name_and_nothing_is_written(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    changed: dict[str, Any],
    told: str,
    arguments: list[str],
) -> None:
    before = committed_in(folder, name, **changed)
    assert generator.main(arguments) == 1
    refused = capsys.readouterr().err
    assert f"error: {told}" in refused
    assert f"make it a new version, {name.split('.', maxsplit=1)[0]}.2" in refused
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: before}


def test_the_version_to_make_is_one_that_is_not_there_yet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed_in(folder, "NEGOTIATION_STARTED.1.json", note={"type": "string"})
    assert generator.main([]) == 1
    refused = capsys.readouterr().err
    assert (
        "NEGOTIATION_STARTED version 1: /data/note was removed; make it a new version, NEGOTIATION_STARTED.3" in refused
    )


def test_a_version_whose_events_are_stored_cannot_be_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ORDER_LOST.3.json").write_text("{}\n")
    assert generator.main([]) == 1
    assert "ORDER_LOST version 3 was removed" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 1


def test_the_command_exits_as_the_check_ends() -> None:
    command = [sys.executable, "-m", "contracts.schemas", "--check"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
