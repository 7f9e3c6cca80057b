"""Payments over a real event store: asked for once, settled once, and money that comes too late is noticed."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Counter

from contracts.errors import ErrorCode, Refused
from contracts.events.money import Money
from contracts.events.order_v1 import OrderCreated
from contracts.events.payment_v1 import PaymentFailed
from contracts.principal import Principal
from services.chassis.aggregates import Cause
from services.chassis.telemetry import logger
from services.payments.domain import Outcome, Settle
from services.payments.store import PAYMENT, Payments
from tests.harness.events import fresh
from tests.harness.streams import all_of, looking_at
from tests.harness.toys import Site, storing

ROOT = Principal("root", "admin", 4e9)


def order() -> OrderCreated:
    ids = {f"{name}_id": fresh(name) for name in ("order", "intent", "negotiation", "buyer", "node")}
    return OrderCreated(**ids, total=Money(amount="95.50", currency="EUR"))


@dataclass
class Scene:
    site: Site
    client: Client
    order: OrderCreated = field(default_factory=order)

    def __post_init__(self) -> None:
        self.metrics = CollectorRegistry()
        refunds = Counter("a2a_payments_refunds_due", "", registry=self.metrics)
        self.payments = Payments(self.site.store, refunds, logger("test"))

    async def request(self) -> None:
        await self.payments.request(Cause(self.order.order_id), self.order)

    async def settle(self, outcome: Outcome = "succeeded", *, webhook: str = "w1", reference: str = "psp-1") -> int:
        told = Settle(webhook_id=webhook, outcome=outcome, reference=reference)
        cause = Cause.command("provider", webhook, [outcome, reference])
        return (await self.payments.settle(cause, self.order.order_id, told)).cursor.sequence

    async def cancel(self) -> None:
        """As orders closes the payment of what it cancels."""
        keys = self.order.model_dump(include={"order_id", "intent_id", "buyer_id", "node_id"})
        target = PAYMENT.at(
            self.order.order_id, intent=self.order.intent_id, buyer=self.order.buyer_id, node=self.order.node_id
        )
        closed = PaymentFailed(**keys, amount=self.order.total, reason="order_cancelled")
        await self.site.store.change(target, Cause(fresh("cancel")), lambda _: [closed])

    async def kinds(self) -> list[str]:
        return [one.document["type"] for one in await all_of(self.client, f"market.{self.order.intent_id}.>")]

    @property
    def refunds(self) -> float:
        return self.metrics.get_sample_value("a2a_payments_refunds_due_total") or 0.0


@pytest.fixture
async def scene(nats_server: str) -> AsyncIterator[Scene]:
    async with storing(nats_server) as site, looking_at(nats_server) as client:
        yield Scene(site, client)


@contextlib.contextmanager
def refused_as(code: ErrorCode) -> Any:
    with pytest.raises(Refused) as refused:
        yield
    assert refused.value.problem.code is code


async def test_an_order_is_paid_once_however_often_that_is_told(scene: Scene) -> None:
    await scene.request()
    await scene.request()
    assert len({await scene.settle() for _ in range(3)}) == 1
    await scene.settle(webhook="w2")
    assert await scene.kinds() == ["PAYMENT_REQUESTED", "PAYMENT_SUCCEEDED"]
    shown = await scene.payments.show(ROOT, scene.order.order_id)
    assert (shown.state.status, shown.state.reference) == ("succeeded", "psp-1")
    assert shown.cursor.sequence > 0


async def test_a_message_id_with_other_news_is_refused(scene: Scene) -> None:
    await scene.request()
    await scene.settle()
    with refused_as(ErrorCode.IDEMPOTENCY_KEY_REUSED):
        await scene.settle("failed")


async def test_money_for_a_cancelled_order_is_refused_counted_and_not_stored(scene: Scene) -> None:
    await scene.request()
    await scene.cancel()
    with refused_as(ErrorCode.PAYMENT_CLOSED):
        await scene.settle()
    assert scene.refunds == 1
    await scene.settle("failed", webhook="w2")
    assert await scene.kinds() == ["PAYMENT_REQUESTED", "PAYMENT_FAILED"]


async def test_an_order_cancelled_before_its_payment_was_asked_for_is_never_asked_for(scene: Scene) -> None:
    await scene.cancel()
    await scene.request()
    assert await scene.kinds() == ["PAYMENT_FAILED"]


async def test_a_second_payment_under_another_name_is_money_to_give_back(scene: Scene) -> None:
    await scene.request()
    await scene.settle()
    with refused_as(ErrorCode.PAYMENT_CLOSED):
        await scene.settle(webhook="w2", reference="psp-2")
    assert scene.refunds == 1


async def test_a_failure_that_comes_after_a_success_is_no_money_to_give_back(scene: Scene) -> None:
    await scene.request()
    await scene.settle()
    with refused_as(ErrorCode.PAYMENT_CLOSED):
        await scene.settle("failed", webhook="w2")
    assert scene.refunds == 0


async def test_an_order_that_nobody_has_is_not_found(scene: Scene) -> None:
    for one in (scene.order.order_id, "-", "a.b", ""):
        with refused_as(ErrorCode.NOT_FOUND):
            await scene.payments.show(ROOT, one)
    with refused_as(ErrorCode.NOT_FOUND):
        await scene.settle()


async def test_a_payment_is_shown_to_its_parties_and_nobody_else(scene: Scene) -> None:
    await scene.request()
    for sub, role in ((scene.order.buyer_id, "buyer"), (scene.order.node_id, "node"), ("s", "service")):
        await scene.payments.show(Principal(sub, role, 4e9), scene.order.order_id)
    for sub, role in ((scene.order.buyer_id, "node"), (scene.order.node_id, "buyer"), ("eve", "buyer")):
        with refused_as(ErrorCode.NOT_FOUND):
            await scene.payments.show(Principal(sub, role, 4e9), scene.order.order_id)
