"""The AsyncAPI document: valid by the official schema, and true of what is declared and sent."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft7Validator, FormatChecker

from contracts import wire
from contracts.channels import CHANNELS
from contracts.contract import Contract
from contracts.errors import CloseCode, ErrorCode
from contracts.principal import ROLES
from contracts.registry import REGISTRY
from contracts.schemas.__main__ import ASYNCAPI, FOLDER
from contracts.schemas.asyncapi import message_name
from services.gateway.core.frames import RESERVED_EVENT_NAMES
from tests.contract.golden_events import FILES, document

DOCUMENT: Any = json.loads((FOLDER / ASYNCAPI).read_text())
OFFICIAL: Any = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())
EVERY_MESSAGE = sorted(DOCUMENT["components"]["messages"])


def validator(schema: str) -> Draft7Validator:
    """Of one of the document's own schemas; it is a superset of draft 7."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return Draft7Validator(whole, format_checker=FormatChecker())


def test_the_document_is_valid_asyncapi_3() -> None:
    kind = jsonschema.validators.validator_for(OFFICIAL)
    assert [error.json_path for error in kind(OFFICIAL).iter_errors(DOCUMENT)] == []


def test_the_official_schema_would_have_told() -> None:
    broken = {**DOCUMENT, "operations": {"x": {"action": "shout"}}}
    assert not Draft7Validator(OFFICIAL).is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    for reference in set(references(DOCUMENT)):
        target = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


@pytest.mark.parametrize("name", EVERY_MESSAGE)
def test_every_example_fits_its_message(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    for example in message.get("examples", []):
        validator(message["payload"]["$ref"].rpartition("/")[2]).validate(example["payload"])


@pytest.mark.parametrize("kind", wire.CLIENT_MESSAGES)
def test_every_example_of_a_client_message_is_one_that_the_gateway_reads(kind: type[wire.ClientMessage]) -> None:
    for example in DOCUMENT["components"]["messages"][kind.__name__]["examples"]:
        assert isinstance(wire.parse(json.dumps(example["payload"]).encode()), kind)


def test_every_message_both_ways_is_there() -> None:
    there = set(DOCUMENT["channels"]["websocket"]["messages"])
    assert there == {kind.__name__ for kind in (*wire.CLIENT_MESSAGES, *wire.GATEWAY_MESSAGES)}
    received = {one["$ref"].rpartition("/")[2] for name in DOCUMENT["operations"] if name.startswith("on")
                for one in DOCUMENT["operations"][name].get("messages", [])}  # fmt: skip
    assert {kind.__name__ for kind in wire.CLIENT_MESSAGES} <= received


def test_every_control_event_of_a_stream_is_there() -> None:
    eventsources_own = {"error", "open", "message"}
    assert set(wire.STREAM_EVENTS) == RESERVED_EVENT_NAMES - eventsources_own
    assert {f"stream.{name}" for name in wire.STREAM_EVENTS} < set(DOCUMENT["channels"]["eventStream"]["messages"])


def test_every_kind_of_channel_is_there_with_who_may_and_which_events() -> None:
    for kind in CHANNELS:
        channel = DOCUMENT["channels"][f"{kind.name}.{kind.only_id}" if kind.only_id else kind.name]
        assert set(channel["x-access"]) == set(kind.access)
        assert channel["address"] == f"{kind.name}:{kind.only_id or '{id}'}"
    assert set(DOCUMENT["channels"]["market.intents"]["messages"]) == {"INTENT_CREATED.1", "INTENT_CANCELLED.1"}
    assert "INTENT_CREATED.1" not in DOCUMENT["channels"]["node"]["messages"]
    of_the_market = {message_name(one) for one in REGISTRY if one.stream == "MARKET"}
    assert set(DOCUMENT["channels"]["buyer"]["messages"]) == of_the_market
    of_plans = {message_name(one) for one in REGISTRY if one.stream == "PLANS"}
    assert set(DOCUMENT["channels"]["plan"]["messages"]) == of_plans
    of_an_order = {name.partition("_")[0] for name in DOCUMENT["channels"]["order"]["messages"]}
    assert of_an_order == {"ORDER", "PAYMENT"}


@pytest.mark.parametrize("contract", list(REGISTRY), ids=lambda one: f"{one.type}.{one.version}")
def test_every_event_has_a_subject_whose_parameters_are_fields_of_it(contract: Contract) -> None:
    (channel,) = [
        one for key, one in DOCUMENT["channels"].items()
        if key.startswith("subject.") and message_name(contract) in one["messages"]
    ]  # fmt: skip
    found = channel["address"].format(**contract.example, **contract.given)
    assert found == contract.subject_of(contract.example, contract.given)
    for name, parameter in channel["parameters"].items():
        if name in contract.given:
            continue  # told by the subject alone
        assert parameter["location"] == f"$message.payload#/data/{name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_event_fits_its_message(path: Path) -> None:
    event = document(path)
    validator(f"{event['type']}.{event['schemaversion']}").validate(event)


def test_an_event_that_does_not_fit_fits_no_message_either() -> None:
    event = document(FILES[0])
    assert not validator("ORDER_CREATED.1").is_valid({**event, "type": "ORDER_CREATED"})


def test_the_codes_and_the_roles_are_those_of_the_code() -> None:
    assert {one["code"] for one in DOCUMENT["x-error-codes"]} == {code.wire for code in ErrorCode}
    assert {one["code"] for one in DOCUMENT["x-close-codes"]} == set(map(int, CloseCode))
    assert set(DOCUMENT["x-roles"]) == set(ROLES)
