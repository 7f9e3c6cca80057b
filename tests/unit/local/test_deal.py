"""A made-up deal is a story of requests: each goes to whom it concerns, with ids that the answers before it told."""

from typing import Any

import pytest

from services.local.deal import PROVIDER, Deal, Ending, Request


def deal(ending: Ending = Ending.PAID) -> Deal:
    return Deal("k1", "buyer_ada", "node_oslo", "a market study", asked=100, agreed=90, ending=ending)


def told(ending: Ending = Ending.PAID) -> list[Request]:
    """The whole story, each request answered with an id of its own."""
    story, requests = deal(ending).story(), []
    request = next(story)
    while True:
        requests.append(request)
        answer: dict[str, Any] = {"id": f"id{len(requests)}", "state": {"order_id": "o9"}}
        try:
            request = story.send(answer)
        except StopIteration:
            return requests


def test_a_deal_goes_from_the_intent_to_the_payment() -> None:
    assert [(one.role, one.path) for one in told()] == [
        ("buyer", "/v1/intents"),
        ("node", "/v1/intents/id1/quotes"),
        ("buyer", "/v1/intents/id1/negotiations"),
        ("node", "/v1/negotiations/id3/offers"),
        ("buyer", "/v1/negotiations/id3/accept"),
        ("buyer", "/v1/negotiations/id3"),
        (PROVIDER, "/v1/payments/o9/result"),
    ]


def test_every_request_has_a_key_of_its_own() -> None:
    keys = [one.key for one in told()]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("k1-") for key in keys)


def test_what_is_paid_was_agreed_and_what_is_negotiated_was_quoted() -> None:
    requests = told()
    assert requests[2].body is not None
    assert requests[2].body["quote_id"] == "id2"
    assert requests[3].body == {"price": {"amount": "90.00", "currency": "EUR"}}
    assert requests[5].body is None
    assert requests[6].body == {"status": "succeeded", "reference": "psp-k1"}


@pytest.mark.parametrize(
    ("ending", "last"),
    [
        (Ending.DECLINED, {"status": "failed", "reference": "psp-k1", "reason": "card declined"}),
        (Ending.REJECTED, {"reason": "too dear"}),
    ],
)
def test_not_every_deal_ends_well(ending: Ending, last: dict[str, str]) -> None:
    assert told(ending)[-1].body == last
