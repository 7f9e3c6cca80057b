"""Orders on a real nats-server, over HTTP and by events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from nats.aio.client import Client
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.chassis.deadletters import DeadLetter, bury, letters
from services.local.embedded import EmbeddedNats
from services.orders.app import NAME, define
from services.orders.settings import OrdersSettings
from tests.harness.events import event, fresh
from tests.harness.publisher import Caller, Process, process, publisher
from tests.harness.streams import StoredMessage, all_of, looking_at
from tests.harness.waiting import until


def by(kind: str) -> dict[str, Any]:
    """The source of the service that stores events of this kind."""
    return {"source": f"urn:a2a:service:{'deals' if kind.startswith('NEGOTIATION') else 'payments'}"}


class Deal:
    """The events that others store of one deal."""

    def __init__(self, client: Client) -> None:
        self.client = client
        names = ("intent", "buyer", "node", "order")
        self.ids: dict[str, str] = {name: fresh(name) for name in names}
        self.order = self.ids["order"]
        self.buyer, self.node = self.ids["buyer"], self.ids["node"]

    async def tell(self, kind: str, **data: Any) -> dict[str, Any]:
        ids: Any = self.ids
        attributes = {**by(kind), "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        document = event(kind, data=data, attributes=attributes, **ids)
        await self.client.jetstream().publish(document["subject"], json.dumps(document).encode())
        return document

    async def accepted(self) -> dict[str, Any]:
        return await self.tell("NEGOTIATION_ACCEPTED", price={"amount": "12.50", "currency": "EUR"})

    async def ordered(self) -> None:
        await self.accepted()
        await self.has("order", "ORDER_CREATED")

    async def stored(self, aggregate: str) -> list[StoredMessage]:
        return await all_of(self.client, f"market.*.*.*.{aggregate}.{self.order}")

    async def kinds(self, aggregate: str) -> list[str]:
        return [one.document["type"] for one in await self.stored(aggregate)]

    async def has(self, aggregate: str, *kinds: str) -> None:
        async def holds() -> bool:
            return await self.kinds(aggregate) == list(kinds)

        await until(holds, what=f"{aggregate}: {kinds}")


PAID: dict[str, Any] = {"amount": {"amount": "12.5", "currency": "EUR"}}


@pytest.fixture
async def orders(fresh_nats: EmbeddedNats) -> AsyncIterator[Caller]:
    async with publisher(NAME, define, OrdersSettings, fresh_nats.url) as found:
        yield found


@pytest.fixture
async def client(fresh_nats: EmbeddedNats, orders: Caller) -> AsyncIterator[Client]:
    async with looking_at(fresh_nats.url) as found:
        yield found


@pytest.fixture
def deal(client: Client) -> Deal:
    return Deal(client)


async def test_an_accepted_negotiation_becomes_one_order_that_says_why(deal: Deal) -> None:
    first = await deal.accepted()
    await deal.has("order", "ORDER_CREATED")
    await deal.accepted()  # another event about the same: none of ours, yet it must not make another order
    await deal.tell("PAYMENT_REQUESTED")
    await asyncio.sleep(0.1)
    (stored,) = await deal.stored("order")
    found = stored.document
    assert found["causationid"] == first["id"]
    assert (found["correlationid"], found["traceparent"]) == (deal.ids["intent"], first["traceparent"])
    assert found["data"]["total"] == {"amount": "12.50", "currency": "EUR"}


async def test_a_payment_that_succeeded_confirms_and_one_that_failed_cancels(deal: Deal, client: Client) -> None:
    await deal.ordered()
    await deal.tell("PAYMENT_SUCCEEDED", **PAID, reference="psp-1")
    await deal.has("order", "ORDER_CREATED", "ORDER_CONFIRMED")
    assert (await deal.stored("order"))[1].document["data"]["reference"] == "psp-1"
    other = Deal(client)
    await other.ordered()
    await other.tell("PAYMENT_FAILED", **PAID)
    await other.has("order", "ORDER_CREATED", "ORDER_CANCELLED")
    data = (await other.stored("order"))[1].document["data"]
    assert (data["by"], data["reason"]) == ("system", "payment_failed")


async def test_an_order_is_shown_to_its_parties_as_of_a_cursor(deal: Deal, orders: Caller) -> None:
    await deal.ordered()
    path = f"/v1/orders/{deal.order}"
    for sub, role in ((deal.buyer, "buyer"), (deal.node, "node"), ("root", "admin"), ("s", "service")):
        answer = await orders.get(path, sub, role)
        assert answer.status_code == 200
        assert answer.json()["state"]["status"] == "open"
        assert answer.json()["state"]["payment"] is None
    for sub, role in ((deal.node, "buyer"), (deal.buyer, "node"), ("ben", "buyer")):
        stranger = await orders.get(path, sub, role)
        unknown = await orders.get("/v1/orders/nobody", sub, role)
        assert (stranger.status_code, stranger.json()) == (404, unknown.json())
    await deal.tell("PAYMENT_SUCCEEDED", **PAID)
    await deal.has("order", "ORDER_CREATED", "ORDER_CONFIRMED")
    answer = await orders.get(path, deal.buyer, "buyer")
    assert (answer.json()["state"]["status"], answer.json()["state"]["payment"]) == ("confirmed", "succeeded")
    last = (await deal.stored("order"))[-1].sequence
    assert int(answer.json()["cursor"].rpartition(".")[2]) >= last


async def test_cancelling_closes_order_and_payment_at_once_and_once(deal: Deal, orders: Caller) -> None:
    await deal.ordered()
    path, key = f"/v1/orders/{deal.order}/cancel", fresh("key")
    first = await orders.post(path, deal.buyer, "buyer", {"reason": "r"}, key=key)
    again = await orders.post(path, deal.buyer, "buyer", {"reason": "r"}, key=key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.json()["id"] == deal.order
    assert await deal.kinds("order") == ["ORDER_CREATED", "ORDER_CANCELLED"]
    (failed,) = await deal.stored("payment")
    (_, cancelled) = await deal.stored("order")
    assert failed.sequence == cancelled.sequence + 1
    assert failed.document["causationid"] == cancelled.document["causationid"]
    assert (failed.document["type"], failed.document["data"]["reason"]) == ("PAYMENT_FAILED", "order_cancelled")
    reused = await orders.post(path, deal.buyer, "buyer", {"reason": "other"}, key=key)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    refused = await orders.post(path, deal.node, "node")
    assert (refused.status_code, refused.json()["code"]) == (409, "order_closed")
    stranger = await orders.post(path, "ben", "buyer")
    assert (stranger.status_code, stranger.json()["code"]) == (404, "not_found")
    await asyncio.sleep(0.1)  # the reaction to the failed payment finds the order cancelled
    assert await deal.kinds("order") == ["ORDER_CREATED", "ORDER_CANCELLED"]


async def test_what_is_paid_cannot_be_cancelled(deal: Deal, orders: Caller) -> None:
    await deal.ordered()
    await deal.tell("PAYMENT_REQUESTED", **PAID)
    await deal.tell("PAYMENT_SUCCEEDED", **PAID)
    answer = await orders.post(f"/v1/orders/{deal.order}/cancel", deal.buyer, "buyer")
    assert (answer.status_code, answer.json()["code"]) == (409, "order_paid")
    await deal.has("order", "ORDER_CREATED", "ORDER_CONFIRMED")


async def test_of_cancelling_and_paying_at_the_same_time_one_happens(client: Client, orders: Caller) -> None:
    """The payment's own expected sequence is what decides: payments stores its success in the same way."""
    for number in range(20):
        deal = Deal(client)
        await deal.ordered()
        await deal.tell("PAYMENT_REQUESTED", **PAID)
        ids: Any = deal.ids
        paid = event("PAYMENT_SUCCEEDED", data=PAID, attributes=by("PAYMENT_SUCCEEDED"), **ids)
        expected = str((await deal.stored("payment"))[0].sequence)

        async def pay(paid: dict[str, Any] = paid, expected: str = expected, wait: float = number / 5000) -> None:
            await asyncio.sleep(wait)
            headers = {"Nats-Expected-Last-Subject-Sequence": expected}
            await client.request(paid["subject"], json.dumps(paid).encode(), headers=headers, timeout=5)

        path = f"/v1/orders/{deal.order}/cancel"
        answer, _ = await asyncio.gather(orders.post(path, deal.buyer, "buyer"), pay())
        if answer.status_code == 201:
            assert await deal.kinds("payment") == ["PAYMENT_REQUESTED", "PAYMENT_FAILED"]
            assert await deal.kinds("order") == ["ORDER_CREATED", "ORDER_CANCELLED"]
        else:
            assert answer.json()["code"] == "order_paid"
            await deal.has("order", "ORDER_CREATED", "ORDER_CONFIRMED")
            assert await deal.kinds("payment") == ["PAYMENT_REQUESTED", "PAYMENT_SUCCEEDED"]


async def test_200_concurrent_cancellings_cancel_once(deal: Deal, orders: Caller) -> None:
    await deal.ordered()
    path = f"/v1/orders/{deal.order}/cancel"
    answers = await asyncio.gather(*(orders.post(path, deal.buyer, "buyer") for _ in range(200)))
    assert sorted({answer.status_code for answer in answers}) == [201, 409]
    assert [answer.status_code for answer in answers].count(201) == 1
    assert await deal.kinds("order") == ["ORDER_CREATED", "ORDER_CANCELLED"]
    assert await deal.kinds("payment") == ["PAYMENT_FAILED"]


async def test_a_contradiction_between_money_and_order_is_a_dead_letter(deal: Deal, client: Client) -> None:
    await deal.ordered()
    await deal.tell("PAYMENT_SUCCEEDED", amount={"amount": "1", "currency": "EUR"})

    async def buried() -> list[Any]:
        return [one async for one in letters(client, "orders")]

    (letter,) = await until(buried)
    assert "not the order's total" in letter.reason
    assert await deal.kinds("order") == ["ORDER_CREATED"]


async def test_payments_without_an_order_are_passed_by(deal: Deal, orders: Caller, client: Client) -> None:
    await deal.tell("PAYMENT_SUCCEEDED", **PAID)
    other = Deal(client)
    await other.ordered()
    assert await deal.kinds("order") == []
    assert await orders.counted("a2a_reactions_total") == 2


async def test_the_document_at_openapi_json_names_the_operations(orders: Caller) -> None:
    spec = (await orders.http.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(spec).validate()
    assert set(spec["paths"]) == {"/v1/orders/{id}", "/v1/orders/{id}/cancel"}
    state = spec["components"]["schemas"]["OrderView"]["properties"]
    assert {"status", "payment", "total"} <= set(state)


# As a process ---------------------------------------------------------------------------------------------------------


async def test_killed_at_any_moment_each_negotiation_becomes_one_order(fresh_nats: EmbeddedNats) -> None:
    async with process(NAME, fresh_nats.url) as (service, caller), looking_at(fresh_nats.url) as client:
        deals = [Deal(client) for _ in range(30)]
        for number, deal in enumerate(deals):
            await deal.accepted()
            if number % 10 == 5:
                await service.kill()
                await service.start()
        for deal in deals:
            await deal.has("order", "ORDER_CREATED")
        await caller.ready(20)
        assert await service.terminate() == 0


async def test_killed_between_storing_and_acknowledging_the_effect_happens_once(fresh_nats: EmbeddedNats) -> None:
    async with process(NAME, fresh_nats.url) as (service, _), looking_at(fresh_nats.url) as client:
        deal = Deal(client)
        stopping = asyncio.Event()

        async def on_stored(_: Any) -> None:
            if not stopping.is_set():
                stopping.set()
                assert service.process is not None
                service.process.kill()

        # The order's event is seen here at the moment in which it reaches the server, the acknowledgement after it.
        await client.subscribe(f"market.*.*.*.order.{deal.order}", cb=on_stored)
        await client.flush()
        await deal.accepted()
        await stopping.wait()
        await service.kill()
        await service.start()
        await deal.has("order", "ORDER_CREATED")
        other = Deal(client)
        await other.ordered()  # the first was redelivered before this one
        assert await deal.kinds("order") == ["ORDER_CREATED"]


async def test_a_restart_beside_many_events_of_others_reads_only_its_own(fresh_nats: EmbeddedNats) -> None:
    """With a million it is `task bench -- COMMANDS-1M`, which tells the seconds."""
    async with process(NAME, fresh_nats.url) as (service, caller), looking_at(fresh_nats.url) as client:
        deal = Deal(client)
        await deal.ordered()
        for number in range(30_000):
            await client.publish(f"market.x{number}.b{number % 100}.n.shipment.s{number}", b"{}")
            if number % 1000 == 0:
                await client.flush()
        await client.flush()
        await service.kill()
        began = asyncio.get_running_loop().time()
        await service.start()

        async def answered() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await caller.get(f"/v1/orders/{deal.order}", deal.buyer, "buyer")).status_code == 200
            return False

        await until(answered, seconds=20)
        assert asyncio.get_running_loop().time() - began < 10  # a machine that is busy; alone it is below one
        assert await caller.counted("a2a_store_folded_events_total") == 1
        answer = await caller.post(f"/v1/orders/{deal.order}/cancel", deal.buyer, "buyer")
        assert answer.status_code == 201
        assert await caller.counted("a2a_store_folded_events_total") == 1


async def test_dead_letters_are_listed_and_replayed_by_a_command(fresh_nats: EmbeddedNats) -> None:
    async with process(NAME, fresh_nats.url) as (service, _), looking_at(fresh_nats.url) as client:
        deal = Deal(client)
        ids: Any = deal.ids
        early = event("NEGOTIATION_ACCEPTED", attributes=by("NEGOTIATION_ACCEPTED"), **ids)
        await client.jetstream().publish(early["subject"], json.dumps({**early, "dataschema": "x"}).encode())

        async def buried() -> list[Any]:
            return [one async for one in letters(client, "orders")]

        (letter,) = await until(buried)

        async def said(choice: str, code: int) -> str:
            one = Process(NAME, fresh_nats.url)
            try:
                running = await one.start("--dead-letters", choice)
                out, _ = await running.communicate()
                assert running.returncode == code
                return out.decode()
            finally:
                await one.close()

        assert f"MARKET:{letter.sequence}  {early['subject']}  deals  " in await said("list", 0)
        assert (await said("replay", 1)).startswith("failed")
        # Mended: the event as it should have been is put in the place of the letter.
        await client.jetstream().purge_stream("DEAD_LETTERS")
        mended = DeadLetter(
            "orders", "deals", "MARKET", early["subject"], letter.sequence + 100, "r", json.dumps(early).encode()
        )
        assert await bury(client, mended)
        assert (await said("replay", 0)).startswith("replayed")
        assert await deal.kinds("order") == ["ORDER_CREATED"]
        assert await said("list", 0) == ""
        assert service.process is not None


async def test_at_sigterm_what_is_under_way_is_answered(fresh_nats: EmbeddedNats) -> None:
    async with process(NAME, fresh_nats.url) as (service, caller), looking_at(fresh_nats.url) as client:
        deals = [Deal(client) for _ in range(20)]
        for deal in deals:
            await deal.ordered()
        asked = [
            asyncio.create_task(caller.post(f"/v1/orders/{deal.order}/cancel", deal.buyer, "buyer")) for deal in deals
        ]
        await deals[0].has("payment", "PAYMENT_FAILED")
        began = asyncio.get_running_loop().time()
        assert await service.terminate() == 0
        assert asyncio.get_running_loop().time() - began < 5
        for deal, one in zip(deals, asked, strict=True):
            try:
                answer = await one
            except Exception:  # it was not taken any more
                assert await deal.kinds("order") == ["ORDER_CREATED"]
            else:
                assert answer.status_code == 201
                assert await deal.kinds("order") == ["ORDER_CREATED", "ORDER_CANCELLED"]
