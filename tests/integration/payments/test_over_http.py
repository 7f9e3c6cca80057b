"""Payments over HTTP: the provider is believed by its signature, once for each message, and strangers learn nothing."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.harness.dealing import WEBHOOK_KEY, Ask, euros, signed
from tests.harness.events import event, fresh
from tests.harness.publishers import Publishers, publishing
from tests.harness.streams import all_of, looking_at
from tests.harness.waiting import until


@pytest.fixture
async def market(nats_server: str) -> AsyncIterator[Publishers]:
    async with publishing(nats_server, "payments") as found:
        yield found


class Order:
    """An order as the orders service stores it."""

    def __init__(self, nats_url: str, market: Publishers) -> None:
        self.nats_url = nats_url
        self.market = market
        self.ids: Any = {name: fresh(name) for name in ("order", "intent", "buyer", "node")}
        self.id: str = self.ids["order"]

    async def made(self, *, source: str = "urn:a2a:service:orders") -> None:
        """ORDER_CREATED is stored."""
        document = event("ORDER_CREATED", data={"total": euros("12.50")}, attributes={"source": source}, **self.ids)
        async with looking_at(self.nats_url) as client:
            await client.jetstream().publish(document["subject"], json.dumps(document).encode())

    async def requested(self) -> None:
        """ORDER_CREATED is stored, and the payment is asked for."""
        await self.made()

        async def is_there() -> bool:
            return (await self.show().by(self.market.http)).status_code == 200

        await until(is_there, what="the payment is asked for")

    def show(self, role: str = "admin", sub: str = "root") -> Ask:
        return self.market.desk.query("payments", f"/v1/payments/{self.id}", role, sub)

    async def kinds(self) -> list[str]:
        async with looking_at(self.nats_url) as client:
            return [one.document["type"] for one in await all_of(client, f"market.*.*.*.payment.{self.id}")]


@pytest.fixture
async def order(nats_server: str, market: Publishers) -> Order:
    found = Order(nats_server, market)
    await found.requested()
    return found


async def test_an_order_is_asked_for_and_what_the_provider_tells_is_stored_once(
    market: Publishers, order: Order
) -> None:
    shown = await market.ask(order.show())
    assert (shown["state"]["status"], shown["state"]["amount"]) == ("requested", euros("12.50"))
    told = market.desk.result(order.id)
    first = await market.ask(told)
    assert first["id"] == order.id
    assert await market.ask(told) == first
    assert await market.ask(market.desk.result(order.id, reference="psp-1")) == first
    assert await order.kinds() == ["PAYMENT_REQUESTED", "PAYMENT_SUCCEEDED"]
    shown = await market.ask(order.show())
    assert (shown["state"]["status"], shown["state"]["reference"]) == ("succeeded", "psp-1")


async def test_the_event_bears_the_message_that_told_it(market: Publishers, order: Order, nats_server: str) -> None:
    await market.ask(market.desk.result(order.id, "failed", reason="no funds", webhook_id="msg_77"))
    async with looking_at(nats_server) as client:
        stored = (await all_of(client, f"market.*.*.*.payment.{order.id}"))[-1].document
    assert (stored["data"]["webhook_id"], stored["data"]["reason"]) == ("msg_77", "no funds")
    assert stored["correlationid"] == order.ids["intent"]


async def test_a_message_is_refused_whose_signature_is_of_another_key_old_or_missing(
    market: Publishers, order: Order
) -> None:
    good = market.desk.result(order.id)
    for headers in (
        signed(good.body, b"another key"),
        signed(good.body, age=400),
        signed(good.body, age=-400),
        signed(b"another body"),
        {},
        {"webhook-id": "m", "webhook-timestamp": "yesterday", "webhook-signature": "v1,AAAA"},
        {"Authorization": "Bearer whatever"},
    ):
        refused = await market.ask(replace(good, headers=headers), 401)
        assert refused["code"] == "invalid_signature"
    assert await order.kinds() == ["PAYMENT_REQUESTED"]


async def test_a_stranger_to_the_secret_cannot_tell_which_orders_there_are(market: Publishers, order: Order) -> None:
    answers = [
        await market.desk.result(one, headers=signed(b"", b"another key")).by(market.http)
        for one in (order.id, str(uuid.uuid4()))
    ]
    assert answers[0].content == answers[1].content
    assert answers[0].status_code == 401


async def test_while_the_secret_changes_either_signature_is_good(market: Publishers, order: Order) -> None:
    told = market.desk.result(order.id)
    await market.ask(replace(told, headers=signed(told.body, b"the secret before", WEBHOOK_KEY)))


async def test_a_message_id_that_was_used_for_other_news_is_422(market: Publishers, order: Order) -> None:
    await market.ask(market.desk.result(order.id, webhook_id="w1"))
    refused = await market.ask(market.desk.result(order.id, "failed", webhook_id="w1"), 422)
    assert refused["code"] == "idempotency_key_reused"


async def test_money_for_a_closed_payment_is_refused_and_counted_to_be_given_back(
    market: Publishers, order: Order
) -> None:
    await market.ask(market.desk.result(order.id, "failed"))
    refused = await market.ask(market.desk.result(order.id), 409)
    assert (refused["code"], refused["retryable"]) == ("payment_closed", False)
    assert await market.counted("payments", "a2a_payments_refunds_due_total") == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [(b"{}", "/status"), (b'{"status":"maybe","reference":"r"}', "/status"), (b'{"status":"failed"}', "/reference")],
)
async def test_a_signed_body_that_does_not_fit_is_422(
    market: Publishers, order: Order, body: bytes, pointer: str
) -> None:
    refused = await market.ask(replace(market.desk.result(order.id), body=body, headers=signed(body)), 422)
    assert (refused["code"], refused["pointer"]) == ("invalid_command", pointer)


async def test_a_message_that_names_its_order_settles_no_other(
    market: Publishers, order: Order, nats_server: str
) -> None:
    other = Order(nats_server, market)
    await other.requested()
    told = market.desk.result(order.id, order_id=order.id)
    led_astray = replace(told, url=told.url.replace(order.id, other.id))
    refused = await market.ask(led_astray, 422)
    assert (refused["code"], refused["pointer"]) == ("invalid_command", "/order_id")
    assert await other.kinds() == ["PAYMENT_REQUESTED"]
    await market.ask(told)
    assert await order.kinds() == ["PAYMENT_REQUESTED", "PAYMENT_SUCCEEDED"]


async def test_a_signed_body_that_is_no_json_is_400(market: Publishers, order: Order) -> None:
    refused = await market.ask(replace(market.desk.result(order.id), body=b"{", headers=signed(b"{")), 400)
    assert refused["code"] == "invalid_json"


async def test_an_order_that_nobody_has_is_404(market: Publishers) -> None:
    assert (await market.ask(market.desk.result(str(uuid.uuid4())), 404))["code"] == "not_found"


async def test_a_payment_is_shown_to_its_parties_and_strangers_learn_nothing(market: Publishers, order: Order) -> None:
    for role, sub in (("buyer", order.ids["buyer"]), ("node", order.ids["node"]), ("service", "s"), ("admin", "a")):
        await market.ask(order.show(role, sub))
    unknown = Order(order.nats_url, market)
    for role, sub in (("buyer", fresh("eve")), ("node", order.ids["buyer"]), ("buyer", order.ids["node"])):
        told = [await one.show(role, sub).by(market.http) for one in (order, unknown)]
        assert (told[0].status_code, told[0].content) == (told[1].status_code, told[1].content)
        assert told[0].status_code == 404


async def test_orders_of_others_are_not_asked_for(market: Publishers, nats_server: str) -> None:
    other, ours = Order(nats_server, market), Order(nats_server, market)
    await other.made(source="urn:acme:orders")
    await ours.requested()  # reactions keep the order, so the other was passed by before
    assert await other.kinds() == []


async def test_openapi_shows_the_webhook_with_its_headers_and_a_body_that_works(
    market: Publishers, order: Order
) -> None:
    document = (await market.http.get(f"{market.desk.urls['payments']}/openapi.json")).json()
    operation = document["paths"]["/v1/payments/{order_id}/result"]["post"]
    assert "security" not in operation
    named = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
    assert named == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    example = operation["requestBody"]["content"]["application/json"]["example"]
    told = market.desk.result(order.id, **example)
    await market.ask(told)
