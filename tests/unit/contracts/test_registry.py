import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.contract import Contract, ContractViolation, Violation, pointer
from contracts.envelope import LARGEST_EVENT_BYTES, read
from contracts.events import negotiation_v2
from contracts.events.cloudevent import CloudEvent
from contracts.registry import REGISTRY, Registry
from contracts.subjects import PLAN, InvalidSubject
from tests.harness.events import TYPES, deal, event
from tests.unit.contracts.strategies import IDS


def violations(document: Any) -> dict[str, str]:
    with pytest.raises(ContractViolation) as refused:
        REGISTRY.publication(document)
    return {each.pointer: each.message for each in refused.value.violations}


def order(**data: Any) -> dict[str, Any]:
    return event("ORDER_CREATED", data=data)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_event_is_stored_as_it_came(kind: str) -> None:
    document = event(kind)
    publication = REGISTRY.publication(document)
    assert json.loads(publication.payload) == document
    assert publication.subject == document["subject"]
    assert publication.headers == {"Nats-Msg-Id": document["id"]}
    assert publication.stream == ("PLANS" if kind.startswith("PLAN_") else "MARKET")
    assert read(publication.payload)[0] == kind


def test_a_whole_deal_shares_its_intent() -> None:
    intents = {REGISTRY.publication(document).subject.split(".")[1] for document in deal()}
    assert len(intents) == 1


@given(IDS, IDS, IDS, IDS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_subject_is_made_of_the_datas_own_ids(intent: str, buyer: str, node: str, order_id: str) -> None:
    document = event("ORDER_CREATED", intent=intent, buyer=buyer, node=node, order=order_id)
    assert REGISTRY.publication(document).subject == f"market.{intent}.{buyer}.{node}.order.{order_id}"


@pytest.mark.parametrize("name", ["intent_id", "buyer_id", "node_id", "order_id"])
def test_data_that_disagrees_with_the_subject_is_named(name: str) -> None:
    found = violations(order(**{name: "another"}))
    assert list(found) == [f"/data/{name}"]
    assert "must equal the subject's" in found[f"/data/{name}"]


def test_an_event_cannot_bear_the_subject_of_another_kind_of_aggregate() -> None:
    document = order()
    document["subject"] = document["subject"].replace(".order.", ".quote.")
    assert violations(document) == {"/subject": "ORDER_CREATED has 'order' as its aggregate, not 'quote'"}


def test_an_intent_cannot_be_put_before_one_node() -> None:
    document = event("INTENT_CREATED")
    document["subject"] = document["subject"].replace(".-.", ".node_a.")
    assert violations(document) == {"/subject": "INTENT_CREATED has '-' as its node, not 'node_a'"}


@pytest.mark.parametrize(
    "subject", ["market.>", "market.*.b.n.order.o", "plan.u.p", "market.a", "$JS.API.STREAM.INFO.M"]
)
def test_a_subject_that_is_no_subject_of_the_layout_is_named(subject: str) -> None:
    assert list(violations(event("ORDER_CREATED", attributes={"subject": subject}))) == ["/subject"]


def test_a_type_that_nobody_registered_is_named() -> None:
    document = event("ORDER_CREATED", attributes={"type": "ORDER_FORGED"})
    assert violations(document) == {"/type": "no contract is registered for ORDER_FORGED"}


def test_a_version_that_nobody_registered_is_told_with_those_there_are() -> None:
    document = event("ORDER_CREATED", attributes={"schemaversion": 7})
    assert violations(document) == {"/schemaversion": "ORDER_CREATED has version 1, not 7"}


def test_a_schema_named_wrongly_is_told_with_the_right_one() -> None:
    document = event("ORDER_CREATED", attributes={"dataschema": "urn:a2a:contract:ORDER_CREATED:2"})
    assert violations(document) == {"/dataschema": "must be urn:a2a:contract:ORDER_CREATED:1"}


def test_every_failing_field_is_named_at_once() -> None:
    found = violations(order(total={"amount": "12,50", "currency": "EURO"}, order_id="a.b", negotiation_id=None))
    assert set(found) == {"/data/total/amount", "/data/total/currency", "/data/order_id", "/data/negotiation_id"}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("specversion", "0.3"),
        ("id", ""),
        ("id", "x" * 129),
        ("id", "café"),
        ("id", "a\r\nNats-Rollup: all"),
        ("id", " a"),
        ("id", "a "),
        ("id", 7),
        ("source", ""),
        ("type", "order_created"),
        ("type", None),
        ("time", "2026-11-20T10:00:00"),
        ("time", "2026-11-20T10:00:00+01:00"),
        ("time", "2026-11-20"),
        ("time", "2026-13-20T10:00:00Z"),
        ("time", 1_795_190_616),
        ("time", "1795190616"),
        ("time", None),
        ("datacontenttype", "text/plain"),
        ("schemaversion", "1"),
        ("schemaversion", 1.0),
        ("schemaversion", True),
        ("schemaversion", 0),
        ("correlationid", ""),
        ("causationid", "x" * 129),
        ("traceparent", "00-zz"),
        ("final", "yes"),
        ("data", []),
        ("data", None),
    ],
)
def test_an_attribute_that_does_not_fit_is_named(attribute: str, value: Any) -> None:
    assert f"/{attribute}" in violations(event("ORDER_CREATED", attributes={attribute: value}))


@pytest.mark.parametrize(
    "attribute", ["id", "source", "type", "time", "subject", "dataschema", "schemaversion", "data"]
)
def test_an_attribute_that_is_missing_is_named(attribute: str) -> None:
    document = order()
    del document[attribute]
    assert violations(document) == {f"/{attribute}": "Field required"}


@pytest.mark.parametrize(
    "time", ["2026-11-20T10:00:00Z", "2026-11-20T10:00:00.123456789Z", "2026-11-20T10:00:00+00:00"]
)
def test_a_time_may_be_as_exact_as_the_publisher_likes(time: str) -> None:
    REGISTRY.publication(event("ORDER_CREATED", attributes={"time": time}))


@pytest.mark.parametrize("moment", ["soon", 1_795_190_616, "2026-11-20 10:00:00Z", "2026-11-20T10:00:00"])
def test_a_time_in_data_is_an_rfc_3339_text_too(moment: Any) -> None:
    assert list(violations(event("QUOTE_RECEIVED", data={"valid_until": moment}))) == ["/data/valid_until"]


@pytest.mark.parametrize("quantity", [0, "5", 5.0, True, None])
def test_a_quantity_is_a_number_of_at_least_one(quantity: Any) -> None:
    assert list(violations(event("INTENT_CREATED", data={"quantity": quantity}))) == ["/data/quantity"]


@pytest.mark.parametrize("amount", ["0", "0.5", "1250.00", "999999999999999.9999"])
def test_money_is_a_decimal_string(amount: str) -> None:
    REGISTRY.publication(order(total={"amount": amount, "currency": "EUR"}))


@pytest.mark.parametrize(
    "amount", ["", "-1", "01", ".5", "1.", "1.00000", "1e3", "1 000", "1" * 16, "1\n", "١", 12.5, 12]
)
def test_money_is_never_anything_a_reader_could_round(amount: Any) -> None:
    assert list(violations(order(total={"amount": amount, "currency": "EUR"}))) == ["/data/total/amount"]


@pytest.mark.parametrize("currency", ["eur", "XXX", "EURO", "", None])
def test_money_has_a_currency_in_use(currency: Any) -> None:
    assert list(violations(order(total={"amount": "1", "currency": currency}))) == ["/data/total/currency"]


def test_fields_that_this_version_does_not_know_are_kept() -> None:
    document = event("ORDER_CREATED", data={"note": "später"}, attributes={"partitionkey": "p"})
    assert json.loads(REGISTRY.publication(document).payload) == document


def test_an_event_larger_than_allowed_is_refused_as_a_whole() -> None:
    found = violations(order(note="x" * LARGEST_EVENT_BYTES))
    assert list(found) == [""]
    assert str(LARGEST_EVENT_BYTES) in found[""]


@pytest.mark.parametrize("note", [math.nan, math.inf, "\ud800", {"deep": "\udfff"}])
def test_what_json_cannot_hold_is_refused_and_is_no_crash(note: Any) -> None:
    assert "cannot be written as JSON" in violations(order(note=note))[""]


def test_nesting_beyond_reason_is_refused_and_is_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert list(violations(order(note=deep))) == [""]


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_what_is_no_object_is_refused_as_a_whole(document: Any) -> None:
    assert list(violations(document)) == [""]


def test_a_violation_is_told_with_its_place() -> None:
    assert str(ContractViolation([Violation("/a", "wrong"), Violation("", "too")])) == "/a: wrong; /: too"


def test_a_pointer_escapes_what_rfc_6901_says() -> None:
    assert pointer(["a/b", "m~n", 3]) == "/a~1b/m~0n/3"
    assert pointer([]) == ""


class _Note(BaseModel):
    plan_id: str
    owner: str


def test_a_domain_of_ones_own_registers_without_touching_the_others() -> None:
    keys = {"owner": "owner", "plan": "plan_id"}
    contract = Contract("NOTE_LEFT", 2, _Note, "PLANS", PLAN, keys, {}, {"plan_id": "p", "owner": "u"})
    registry = Registry([*REGISTRY, contract])
    document = {**order(), "type": "NOTE_LEFT", "schemaversion": 2, "subject": "plan.u.p", "dataschema": contract.urn}
    publication = registry.publication({**document, "data": {"plan_id": "p", "owner": "u"}})
    assert (publication.subject, publication.stream) == ("plan.u.p", "PLANS")
    assert registry.find("NOTE_LEFT", 2) is contract
    assert registry.find("NOTE_LEFT", 1) is None
    with pytest.raises(InvalidSubject):
        contract.subject_of({"plan_id": "p", "owner": "a.b"})


def started_v1(**data: Any) -> dict[str, Any]:
    return event("NEGOTIATION_STARTED", version=1, data=data, attributes={"time": "2026-11-20T10:00:00Z"})


def upcast(document: dict[str, Any]) -> CloudEvent:
    return REGISTRY.upcast(REGISTRY.check(document)[1])


def test_an_old_version_becomes_the_newest_and_fits_it() -> None:
    old = started_v1(opening_offer={"amount": "7.5", "currency": "EUR"}, expires_at="2026-11-29T12:00:00Z")
    new = upcast(old)
    assert (new.schemaversion, new.dataschema) == (2, "urn:a2a:contract:NEGOTIATION_STARTED:2")
    assert new.data["quantity"] == 1
    assert new.data["offer"] == {
        "round": 1,
        "by": "buyer",
        "price": {"amount": "7.5", "currency": "EUR"},
        "expires_at": "2026-11-29T12:00:00Z",
    }
    assert (new.id, new.subject, new.time) == (old["id"], old["subject"], datetime(2026, 11, 20, 10, tzinfo=UTC))
    REGISTRY.check(json.loads(new.model_dump_json(exclude_unset=True)))


def test_an_opening_offer_without_an_end_stands_for_seven_days() -> None:
    assert upcast(started_v1(expires_at=None)).data["offer"]["expires_at"] == "2026-11-27T10:00:00Z"


def test_an_opening_offer_in_the_calendars_last_week_upcasts_too() -> None:
    document = {**started_v1(expires_at=None), "time": "9999-12-31T23:59:59Z"}
    assert upcast(document).data["offer"]["expires_at"].startswith("9999-12-31T23:59:59")


def test_an_event_of_the_newest_version_is_upcast_to_itself() -> None:
    document = event("ORDER_CREATED")
    assert upcast(document) == REGISTRY.check(document)[1]


def test_fields_that_no_version_knows_survive_the_upcaster() -> None:
    assert upcast(started_v1(note="kept")).data["note"] == "kept"


def test_an_old_version_may_still_be_published_and_says_it_is_deprecated() -> None:
    assert REGISTRY.publication(started_v1()).stream == "MARKET"
    assert [contract.version for contract in REGISTRY if contract.deprecated] == [1]


def _versions(*versions: tuple[int, bool]) -> list[Contract]:
    layout = {"owner": "owner", "plan": "plan_id"}
    return [
        Contract("NOTE_LEFT", version, _Note, "PLANS", PLAN, layout, {}, {}, (lambda event: event.data) if up else None)
        for version, up in versions
    ]


@pytest.mark.parametrize(
    "versions", [[(1, False), (2, False)], [(1, True), (3, False)], [(1, True)], [(1, True), (2, True)]]
)
def test_a_registry_without_a_way_from_each_version_to_the_newest_is_refused(versions: list[tuple[int, bool]]) -> None:
    with pytest.raises(ValueError, match="NOTE_LEFT"):
        Registry(_versions(*versions))


def test_upcasters_are_applied_one_after_the_other() -> None:
    def counted(event: CloudEvent) -> dict[str, Any]:
        return {**event.data, "seen": [*event.data.get("seen", []), event.schemaversion]}

    registry = Registry(
        [replace(c, upcast=counted if c.upcast else None) for c in _versions((1, True), (2, True), (3, False))]
    )
    first = CloudEvent.model_validate({**event("ORDER_CREATED"), "type": "NOTE_LEFT"})
    last = registry.upcast(first)
    assert (last.data["seen"], last.schemaversion) == ([1, 2], 3)
    assert registry.newest("NOTE_LEFT") is registry.find("NOTE_LEFT", 3)
    assert registry.newest("NOTE_LOST") is None


MONEY = st.builds(
    lambda units, cents, currency: {"amount": f"{units}.{cents:02}", "currency": currency},
    st.integers(0, 10**14),
    st.integers(0, 99),
    st.sampled_from(["EUR", "NOK", "JPY"]),
)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat().replace("+00:00", "Z"))


@given(IDS, MONEY, MOMENTS, st.none() | MOMENTS)
def test_every_event_that_fits_an_old_version_fits_the_newest_once_upcast(
    negotiation: str, price: dict[str, str], time: str, expires_at: str | None
) -> None:
    document = event(
        "NEGOTIATION_STARTED", version=1, negotiation=negotiation, attributes={"time": time},
        data={"opening_offer": price, "expires_at": expires_at},
    )  # fmt: skip
    found = REGISTRY.read(document)
    assert isinstance(found.data, negotiation_v2.NegotiationStarted)
    assert found.data.offer.price.model_dump() == price
    assert found.data.negotiation_id == negotiation
    REGISTRY.publication(json.loads(found.envelope.model_dump_json(exclude_unset=True)))
