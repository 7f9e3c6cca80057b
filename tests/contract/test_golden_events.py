"""Events as they were once stored, of every version: never edited, and for ever read.

A golden event is added with its contract, and its line in SHA256SUMS with it
(`cd tests/contract/golden && sha256sum *.json > SHA256SUMS`); a line that changes is a promise broken.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from contracts.events.money import CURRENCIES
from contracts.publishing import read
from contracts.registry import REGISTRY
from contracts.schemas.__main__ import FOLDER
from services.deals.domain import intent, negotiation, quote
from services.orders import domain as orders
from services.payments import domain as payments
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


def test_a_currency_that_stored_events_may_bear_is_never_taken_away() -> None:
    # No JSON Schema says which codes there are, so `task contracts` cannot notice.
    assert set((GOLDEN / "currencies.txt").read_text().split()) <= CURRENCIES


def test_nothing_of_a_whole_golden_event_is_lost_on_reading() -> None:
    for path in GOLDEN.glob("*.whole.json"):
        event = document(path)
        if REGISTRY.newest(event["type"]) is REGISTRY.find(event["type"], event["schemaversion"]):
            assert read(path.read_bytes()).data.model_dump(mode="json", exclude_none=True) == event["data"]


# Kind of aggregate -> the fold that the market's services stand on.
FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "intent": intent.evolve,
    "quote": quote.evolve,
    "negotiation": negotiation.evolve,
    "order": orders.evolve,
    "payment": payments.evolve,
}


def folded(*names: str) -> Any:
    """The state after these golden events, whole ones, in this order."""
    state = None
    for name in names:
        event = read((GOLDEN / f"{name}.whole.json").read_bytes())
        state = FOLDS[event.contract.fixed["aggregate"]](state, event.data)
    return state


def test_a_negotiation_that_began_in_version_1_folds_like_one_of_version_2() -> None:
    old, new = folded("NEGOTIATION_STARTED.1"), folded("NEGOTIATION_STARTED.2")
    assert old.offer == new.offer
    assert replace(old, quantity=new.quantity) == new
    assert folded("NEGOTIATION_STARTED.1", "NEGOTIATION_OFFER_MADE.1", "NEGOTIATION_ACCEPTED.1").order_id


@pytest.mark.parametrize(
    "life",
    [
        ("INTENT_CREATED.1", "INTENT_CANCELLED.1"),
        ("QUOTE_RECEIVED.1", "QUOTE_WITHDRAWN.1"),
        ("NEGOTIATION_STARTED.1", "NEGOTIATION_OFFER_MADE.1", "NEGOTIATION_REJECTED.1"),
        ("NEGOTIATION_STARTED.2", "NEGOTIATION_OFFER_MADE.1", "NEGOTIATION_ACCEPTED.1"),
        ("ORDER_CREATED.1", "ORDER_CONFIRMED.1"),
        ("ORDER_CREATED.1", "ORDER_CANCELLED.1"),
        ("PAYMENT_REQUESTED.1", "PAYMENT_SUCCEEDED.1"),
        ("PAYMENT_REQUESTED.1", "PAYMENT_FAILED.1"),
    ],
    ids="-".join,
)
def test_golden_events_fold_into_todays_state_each_changing_it(life: tuple[str, ...]) -> None:
    states = [folded(*life[: number + 1]) for number in range(len(life))]
    assert all(state is not None for state in states)
    assert all(one != other for one, other in pairwise(states))
