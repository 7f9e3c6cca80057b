"""The publishing kit."""

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.contract import ContractViolation
from contracts.events import negotiation_v2, order_v1, plan_v1
from contracts.events.moment import Moment
from contracts.events.money import Money
from contracts.publishing import derived_id, fresh_id, new_event, publication, read
from contracts.registry import REGISTRY
from tests.harness.events import TYPES, event

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIRMED = order_v1.OrderConfirmed(intent_id="i", buyer_id="b", node_id="n", order_id="o", reference="r")


def made(kind: str = "ORDER_CONFIRMED", data: Any = CONFIRMED, **attributes: Any) -> dict[str, Any]:
    return new_event(kind, data, **{"id": "e1", "source": "urn:a2a:service:orders", "time": NOON, **attributes})


def pointers(refused: pytest.ExceptionInfo[ContractViolation]) -> list[str]:
    return [each.pointer for each in refused.value.violations]


def test_typed_data_becomes_subject_headers_and_bytes() -> None:
    stored = publication(made(correlationid="i", causationid="c", traceparent=f"00-{'1' * 32}-{'2' * 16}-01"))
    assert (stored.subject, stored.stream, stored.headers) == ("market.i.b.n.order.o", "MARKET", {"Nats-Msg-Id": "e1"})
    assert json.loads(stored.payload) == {
        "specversion": "1.0",
        "id": "e1",
        "source": "urn:a2a:service:orders",
        "type": "ORDER_CONFIRMED",
        "time": "2026-11-20T12:00:00.000000Z",
        "subject": "market.i.b.n.order.o",
        "dataschema": "urn:a2a:contract:ORDER_CONFIRMED:1",
        "datacontenttype": "application/json",
        "schemaversion": 1,
        "correlationid": "i",
        "causationid": "c",
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "data": {"intent_id": "i", "buyer_id": "b", "node_id": "n", "order_id": "o", "reference": "r"},
    }


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_published_is_read_back_typed(kind: str) -> None:
    document = event(kind)
    found = read(REGISTRY.publication(document).payload)
    assert found.contract is REGISTRY.newest(kind)
    assert isinstance(found.data, found.contract.model)
    again = made(kind, found.data, id=document["id"], given=found.contract.given)
    assert (again["data"], again["subject"]) == (document["data"], document["subject"])


def test_the_owner_of_a_plan_is_told_by_its_maker_and_nobody_else() -> None:
    error = plan_v1.PlanError(taskId="p", contextId="c", code="e", message="m", retryable=False)
    assert publication(made("PLAN_ERROR", error, given={"owner": "ada"})).subject == "plan.ada.p"
    with pytest.raises(ContractViolation) as refused:
        made("PLAN_ERROR", error)
    assert pointers(refused) == ["/subject"]
    with pytest.raises(ContractViolation) as refused:
        publication({**made("PLAN_ERROR", error, given={"owner": "ada"}), "subject": "plan.-.p"})
    assert pointers(refused) == ["/subject"]


def test_data_may_be_a_mapping_with_models_and_moments_in_it() -> None:
    keys = {"intent_id": "i", "buyer_id": "b", "node_id": "n", "negotiation_id": "x", "quote_id": "q"}
    offer = {"round": 1, "by": "node", "price": Money(amount="1", currency="EUR"), "expires_at": NOON}
    stored = publication(made("NEGOTIATION_STARTED", {**keys, "quantity": 1, "offer": offer}))
    started = read(stored.payload).data
    assert isinstance(started, negotiation_v2.NegotiationStarted)
    assert (started.offer.price.amount, started.offer.expires_at) == ("1", NOON)


def test_an_old_version_that_was_stored_is_read_as_the_newest() -> None:
    found = read(REGISTRY.publication(event("NEGOTIATION_STARTED", version=1)).payload)
    assert isinstance(found.data, negotiation_v2.NegotiationStarted)
    assert (found.contract.version, found.envelope.schemaversion) == (2, 2)


def test_an_old_version_may_be_made_by_naming_it() -> None:
    data = event("NEGOTIATION_STARTED", version=1)["data"]
    assert publication(made("NEGOTIATION_STARTED", data, version=1)).event_id == "e1"


def test_a_time_is_told_in_utc_whatever_its_zone() -> None:
    paris = NOON.astimezone(timezone(timedelta(hours=1)))
    assert made(time=paris)["time"] == made()["time"]


def test_a_time_without_a_zone_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="offset"):
        made(time=NOON.replace(tzinfo=None))


@pytest.mark.parametrize(("kind", "version"), [("ORDER_FORGED", None), ("ORDER_CONFIRMED", 9)])
def test_what_nobody_registered_is_refused(kind: str, version: int | None) -> None:
    with pytest.raises(ContractViolation) as refused:
        made(kind, version=version)
    assert pointers(refused) == ["/type"]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"intent_id": "i"}, ["/data/buyer_id", "/data/node_id", "/data/order_id"]),
        ({**CONFIRMED.model_dump(), "order_id": 7}, ["/data/order_id"]),
        ({**CONFIRMED.model_dump(), "order_id": "a.b"}, ["/subject"]),
    ],
)
def test_data_without_the_subjects_keys_is_refused(data: Any, where: list[str]) -> None:
    with pytest.raises(ContractViolation) as refused:
        made(data=data)
    assert pointers(refused) == where


def test_data_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ContractViolation) as refused:
        publication(made(data={**CONFIRMED.model_dump(), "reference": ""}))
    assert pointers(refused) == ["/data/reference"]


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"{}"])
def test_what_is_no_event_cannot_be_read(payload: bytes) -> None:
    with pytest.raises(ContractViolation):
        read(payload)


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    st.binary(min_size=10, max_size=10),
)
def test_a_fresh_id_is_a_uuid_of_version_7_that_bears_its_moment(time: Moment, entropy: bytes) -> None:
    found = uuid.UUID(fresh_id(time, entropy))
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert abs((found.int >> 80) - time.timestamp() * 1000) <= 1


def test_fresh_ids_of_later_moments_sort_later() -> None:
    assert fresh_id(NOON, b"\xff" * 10) < fresh_id(NOON + timedelta(milliseconds=1), b"\0" * 10)


def test_a_fresh_id_takes_as_much_entropy_as_it_holds() -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        fresh_id(NOON, b"")


PARTS = st.lists(st.text() | st.integers(), max_size=3)


@given(PARTS, PARTS)
def test_derived_ids_are_equal_where_their_causes_are_and_nowhere_else(
    one: list[str | int], other: list[str | int]
) -> None:
    assert (derived_id(*one) == derived_id(*other)) is (one == other)


def test_a_derived_id_never_changes_for_it_is_stored() -> None:
    assert derived_id("order", "negotiation_22d1") == "c3ffeae4-60bd-57b4-9172-a5341d75486b"
    assert uuid.UUID(derived_id("e1", 0)).version == 5
