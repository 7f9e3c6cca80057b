"""A toy of an aggregate over the market's order events, and a store of it in this process: for tests of the chassis."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry

from contracts.errors import ErrorCode, Problem
from contracts.events.order_v1 import OrderCancelled, OrderConfirmed, OrderCreated
from contracts.topology import stores, streams
from services.chassis.aggregates import Aggregate, Cause, Decision, Target
from services.chassis.directory import Directory
from services.chassis.store import EventStore
from services.chassis.storemetrics import store_metrics
from services.chassis.streams import Streams
from services.chassis.telemetry import logger
from tests.harness.events import fresh
from tests.harness.waiting import until

MARKET_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Counted:
    """The state of a toy: how often it was confirmed."""

    order_id: str
    confirmations: int = 0
    cancelled: bool = False


def evolve(state: Counted | None, event: Any) -> Counted | None:
    match event:
        case OrderCreated():
            return Counted(event.order_id)
        case OrderConfirmed() if state is not None:
            return replace(state, confirmations=state.confirmations + 1)
        case OrderCancelled() if state is not None:
            return replace(state, cancelled=True)
    return state


TOY = Aggregate("order", Counted, evolve)


@dataclass(frozen=True)
class Toy:
    """One of them."""

    target: Target[Counted]
    keys: dict[str, str]

    @staticmethod
    def new() -> "Toy":
        keys = {name: fresh(name) for name in ("intent", "buyer", "node")}
        return Toy(TOY.at(fresh("order"), **keys), {f"{name}_id": value for name, value in keys.items()})

    def create(self, state: Counted | None) -> Decision:
        if state is not None:
            return Problem(ErrorCode.ORDER_CLOSED, "it exists")
        total: Any = {"amount": "1.00", "currency": "EUR"}
        return [OrderCreated(**self.keys, order_id=self.target.id, negotiation_id="n1", total=total)]

    def confirm(self, state: Counted | None) -> Decision:
        if state is None or state.cancelled:
            return Problem(ErrorCode.ORDER_CLOSED)
        return [OrderConfirmed(**self.keys, order_id=self.target.id, reference="r")]

    def confirm_once(self, state: Counted | None) -> Decision:
        return self.confirm(state) if state is not None and not state.confirmations else Problem(ErrorCode.ORDER_PAID)

    def cancel(self, state: Counted | None) -> Decision:
        if state is None or state.cancelled:
            return Problem(ErrorCode.ORDER_CLOSED)
        return [OrderCancelled(**self.keys, order_id=self.target.id, by="system", reason="r")]


@dataclass
class Site:
    """A store over a nats-server."""

    store: EventStore
    streams: Streams
    metrics: CollectorRegistry

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(name, labels) or 0.0


def command(key: str | None = None, request: object = None) -> Cause:
    return Cause.command("somebody", key or fresh("key"), request)


@contextlib.asynccontextmanager
async def storing(
    nats_url: str, *, on_store: Callable[[EventStore], None] | None = None, declare: bool = True, **options: Any
) -> AsyncIterator[Site]:
    """A store at `nats_url`, its streams made."""
    log = logger("test")
    metrics = CollectorRegistry()
    specs = (*streams(market_max_bytes=MARKET_BYTES), *stores())
    site = Streams(nats_url, name="test", specs=specs, needed=("MARKET",), declare=declare, monitor_url=None, log=log)
    running = asyncio.create_task(site.run())
    try:
        await until(lambda: site.streams_failing() is None, what="the streams are there")
        settings: dict[str, Any] = {"source": "urn:a2a:service:test", "metrics": store_metrics(metrics), **options}
        yield Site(EventStore(site, Directory(log), **settings), site, metrics)
    finally:
        running.cancel()
        await asyncio.wait([running])
