import json
from typing import Any

import pytest

from contracts.errors import ErrorCode, Refused
from contracts.registry import REGISTRY
from services.ingest.domain import MOST_EVENTS, InvalidEvents, decode, read_batch, read_event
from tests.harness.events import deal, event


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def pointers(text: bytes) -> list[str]:
    with pytest.raises(InvalidEvents) as refused:
        read_batch(text, REGISTRY)
    return [each.pointer for each in refused.value.violations]


def test_one_event_becomes_one_publication() -> None:
    document = event("QUOTE_RECEIVED")
    (found,) = read_event(body(document), REGISTRY)
    assert (found.event_id, found.subject, found.stream) == (document["id"], document["subject"], "MARKET")


def test_a_batch_keeps_its_order() -> None:
    documents = deal()
    assert [each.event_id for each in read_batch(body(documents), REGISTRY)] == [each["id"] for each in documents]


def test_a_pointer_begins_with_the_events_place_in_a_batch_and_without_it_alone() -> None:
    wrong = event("PAYMENT_SUCCEEDED", data={"amount": {"amount": "x", "currency": "EUR"}})
    assert pointers(body([event("ORDER_CREATED"), wrong])) == ["/1/data/amount/amount"]
    with pytest.raises(InvalidEvents) as refused:
        read_event(body(wrong), REGISTRY)
    assert [each.pointer for each in refused.value.violations] == ["/data/amount/amount"]


def test_all_that_is_wrong_in_a_batch_is_told_at_once() -> None:
    batch = [
        event("ORDER_CREATED", data={"node_id": 5}),
        event("ORDER_CREATED"),
        7,
        event("ORDER_CREATED", event_id=""),
    ]
    assert pointers(body(batch)) == ["/0/data/node_id", "/2", "/3/id"]


def test_a_batch_that_is_wrong_throughout_is_answered_with_a_bounded_list() -> None:
    with pytest.raises(InvalidEvents) as refused:
        read_batch(body([{}] * MOST_EVENTS), REGISTRY)
    assert len(refused.value.violations) == 100
    assert "more)" in refused.value.problem.text


def test_the_same_event_twice_is_a_repetition_whatever_the_order_of_its_members() -> None:
    document = event("ORDER_CREATED")
    turned = dict(reversed(document.items()))
    assert len(read_batch(body([document, turned]), REGISTRY)) == 2


@pytest.mark.parametrize("change", [{"note": "other"}, {"note": 1}])
def test_the_same_id_with_another_content_is_named(change: dict[str, Any]) -> None:
    first = event("ORDER_CREATED", data={"note": True})
    other = {**first, "data": {**first["data"], **change}}
    assert pointers(body([first, event("ORDER_CREATED"), other])) == ["/2/id"]


def test_a_thousand_and_one_events_are_too_many_and_none_is_none() -> None:
    with pytest.raises(Refused, match="at most 500") as refused:
        read_batch(body([{}] * (MOST_EVENTS + 1)), REGISTRY)
    assert refused.value.problem.code is ErrorCode.MESSAGE_TOO_LARGE
    assert pointers(b"[]") == [""]


@pytest.mark.parametrize("text", [b"{}", b"null", b'"[]"'])
def test_a_batch_is_an_array(text: bytes) -> None:
    assert pointers(text) == [""]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b'["\xff"]',
        b'["\\ud800"]',
        b"\xef\xbb\xbf{}",
        b"[1,]",
        b"{} {}",
        b"[" * 100000,
        b"'",
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_is_not_strict_json_is_told_so(text: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decode(text)
    assert refused.value.problem.code is ErrorCode.INVALID_JSON
    assert len(refused.value.problem.text) <= 300


def test_a_member_given_twice_counts_once() -> None:
    assert decode(b'{"a":1,"a":2}') == {"a": 2}
