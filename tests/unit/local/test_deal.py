"""A made-up deal tells the five facts in order, and each fits its contract."""

from datetime import UTC, datetime

import pytest

from contracts.registry import REGISTRY
from services.local.deal import STEPS, Deal, document

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DEAL = Deal("k1", "buyer_ada", "node_oslo", "a market study", asked=100, agreed=90)


def test_the_facts_are_those_of_a_deal_in_order() -> None:
    assert [DEAL.event(step, NOON)["type"] for step in range(STEPS)] == [
        "INTENT_CREATED",
        "QUOTE_RECEIVED",
        "NEGOTIATION_STARTED",
        "ORDER_CREATED",
        "PAYMENT_SUCCEEDED",
    ]


@pytest.mark.parametrize("step", range(STEPS))
def test_every_event_fits_its_contract(step: int) -> None:
    assert REGISTRY.publication(DEAL.event(step, NOON)).headers == {"Nats-Msg-Id": DEAL.event(step, NOON)["id"]}


def test_ids_follow_from_the_deal_and_name_their_cause() -> None:
    events = [DEAL.event(step, NOON) for step in range(STEPS)]
    assert len({event["id"] for event in events}) == STEPS
    assert [event.get("causationid") for event in events] == [None, *(event["id"] for event in events[:-1])]
    assert {event["correlationid"] for event in events} == {"intent_k1"}


def test_what_is_paid_is_what_was_agreed() -> None:
    assert DEAL.event(4, NOON)["data"]["amount"] == {"amount": "90.00", "currency": "EUR"}


def test_a_document_of_an_unknown_type_is_a_bug() -> None:
    with pytest.raises(LookupError, match="NO_SUCH_THING"):
        document("NO_SUCH_THING", {}, event_id="1", at=NOON)
