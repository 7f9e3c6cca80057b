"""Deals, orders and payments together, and a gateway beside them: one order, one payment, nothing missed."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.events import deal, fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.publishers import Publishers, publishing
from tests.harness.streams import all_of, looking_at
from tests.harness.waiting import until


@pytest.fixture
async def market(fresh_nats: EmbeddedNats) -> AsyncIterator[Publishers]:
    async with publishing(fresh_nats.url, "deals", "orders", "payments") as found:
        yield found


@pytest.fixture
async def gateway(fresh_nats: EmbeddedNats, market: Publishers) -> AsyncIterator[Gateway]:
    async with running_gateway(fresh_nats.url, market_max_bytes=64 * 1024**2) as found:
        yield found


async def begun(market: Publishers, ada: str, oslo: str) -> tuple[str, str]:
    """An intent and a negotiation that the buyer has opened."""
    intent = (await market.ask(market.desk.intent(ada)))["id"]
    quote = (await market.ask(market.desk.quote(oslo, intent)))["id"]
    return intent, (await market.ask(market.desk.start(ada, intent, quote)))["id"]


async def agreed(market: Publishers, ada: str, oslo: str) -> tuple[str, str]:
    """An intent and the order that came of it, its payment asked for."""
    intent, negotiation = await begun(market, ada, oslo)
    await market.ask(market.desk.accept("node", oslo, negotiation))
    shown = await market.ask(market.desk.query("deals", f"/v1/negotiations/{negotiation}", "buyer", ada))
    order = shown["state"]["order_id"]
    payment = market.desk.query("payments", f"/v1/payments/{order}", "buyer", ada)

    async def is_asked_for() -> bool:
        return (await payment.by(market.http)).status_code == 200

    await until(is_asked_for, what="the payment is asked for")
    return intent, order


async def kinds(url: str, intent: str) -> list[str]:
    async with looking_at(url) as client:
        return [one.document["type"] for one in await all_of(client, f"market.{intent}.>")]


async def test_200_concurrent_acceptances_make_one_order(market: Publishers, fresh_nats: EmbeddedNats) -> None:
    ada, oslo = fresh("buyer"), fresh("node")
    intent, negotiation = await begun(market, ada, oslo)
    accepts = [market.desk.accept("node", oslo, negotiation) for _ in range(200)]
    answers = await asyncio.gather(*(accept.by(market.http) for accept in accepts))
    assert sum(one.status_code == 201 for one in answers) == 1

    async def is_asked_for() -> bool:
        return "PAYMENT_REQUESTED" in await kinds(fresh_nats.url, intent)

    await until(is_asked_for, what="the order's payment is asked for")
    assert (await kinds(fresh_nats.url, intent))[3:] == ["NEGOTIATION_ACCEPTED", "ORDER_CREATED", "PAYMENT_REQUESTED"]


async def test_money_and_order_agree_though_paying_and_cancelling_race(
    market: Publishers, fresh_nats: EmbeddedNats
) -> None:
    ada, oslo = fresh("buyer"), fresh("node")
    for number in range(12):
        intent, order = await agreed(market, ada, oslo)
        requests = [market.desk.result(order), market.desk.cancel_order("buyer", ada, order)]
        if number % 2:
            requests.reverse()
        answers = await asyncio.gather(*(one.by(market.http) for one in requests))
        codes = sorted(one.json().get("code", "done") for one in answers)

        async def has_ended(intent: str = intent) -> Any:
            found = await kinds(fresh_nats.url, intent)
            return found if {"ORDER_CONFIRMED", "ORDER_CANCELLED"} & set(found) else None

        found = await until(has_ended, what="the order has ended")
        paid = "PAYMENT_SUCCEEDED" in found
        assert ("ORDER_CONFIRMED" in found, "ORDER_CANCELLED" in found, "PAYMENT_FAILED" in found) == (
            (True, False, False) if paid else (False, True, True)
        )
        assert codes == ["done", "order_paid" if paid else "payment_closed"]


async def test_from_a_querys_cursor_nothing_is_missed_and_nothing_comes_twice(
    market: Publishers, gateway: Gateway, fresh_nats: EmbeddedNats
) -> None:
    """A screen asks for an intent again and again while quotes arrive, and each time follows it from there."""
    ada = fresh("buyer")
    intent = (await market.ask(market.desk.intent(ada)))["id"]
    query = market.desk.query("deals", f"/v1/intents/{intent}", "buyer", ada)
    looks: list[Any] = []

    async def quote() -> None:
        for _ in range(60):
            await market.ask(market.desk.quote(fresh("node"), intent))

    async def look() -> None:
        while len(looks) < 12:
            looks.append(await market.ask(query))
            await asyncio.sleep(0.01)

    await asyncio.gather(quote(), quote(), look())
    final = {one["quote_id"] for one in (await market.ask(query))["state"]["quotes"]}
    assert len(final) == 120
    assert len({len(one["state"]["quotes"]) for one in looks}) > 3, "nothing happened while it was looked at"
    async with gateway.websocket(ada) as socket:
        for number, one in enumerate(looks):
            await socket.send(op="subscribe", id=number, channel=f"intent:{intent}", cursor=one["cursor"])
            told = await socket.read_until("live")
            followed = [m["event"]["data"]["quote_id"] for m in told if m["op"] == "event"]
            known = [quote["quote_id"] for quote in one["state"]["quotes"]]
            assert len(known) + len(followed) == len(final)
            assert set(known) | set(followed) == final
            await socket.ask(op="unsubscribe", id="u", channel=f"intent:{intent}")


async def test_a_deal_bears_one_trace_and_names_each_cause(market: Publishers, fresh_nats: EmbeddedNats) -> None:
    ada, oslo = fresh("buyer"), fresh("node")
    intent, order = await agreed(market, ada, oslo)
    await market.ask(market.desk.result(order))

    async def has_ended() -> bool:
        return "ORDER_CONFIRMED" in await kinds(fresh_nats.url, intent)

    await until(has_ended, what="the order is confirmed")
    async with looking_at(fresh_nats.url) as client:
        events = {one.document["type"]: one.document for one in await all_of(client, f"market.{intent}.>")}
    assert {one["correlationid"] for one in events.values()} == {intent}
    for effect, reason in (
        ("ORDER_CREATED", "NEGOTIATION_ACCEPTED"),
        ("PAYMENT_REQUESTED", "ORDER_CREATED"),
        ("ORDER_CONFIRMED", "PAYMENT_SUCCEEDED"),
    ):
        assert events[effect]["causationid"] == events[reason]["id"]
    assert {kind: one["source"].rpartition(":")[2] for kind, one in events.items()} == {
        "INTENT_CREATED": "deals",
        "QUOTE_RECEIVED": "deals",
        "NEGOTIATION_STARTED": "deals",
        "NEGOTIATION_ACCEPTED": "deals",
        "ORDER_CREATED": "orders",
        "PAYMENT_REQUESTED": "payments",
        "PAYMENT_SUCCEEDED": "payments",
        "ORDER_CONFIRMED": "orders",
    }


async def test_made_up_events_of_other_publishers_are_left_alone(market: Publishers, fresh_nats: EmbeddedNats) -> None:
    """Whoever publishes whole deals by ingest runs services of their own; ours do not meddle."""
    intent = fresh("intent")
    documents = deal(intent=intent)
    async with looking_at(fresh_nats.url) as client:
        for document in documents:
            await client.jetstream().publish(document["subject"], json.dumps(document).encode())
    ours, _ = await agreed(market, fresh("buyer"), fresh("node"))  # reactions keep the order: those came before
    assert "PAYMENT_REQUESTED" in await kinds(fresh_nats.url, ours)
    assert await kinds(fresh_nats.url, intent) == [one["type"] for one in documents]
