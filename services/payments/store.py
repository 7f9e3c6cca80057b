"""Payments over the event store: asked for by an order, settled by its provider's word.

A provider that pays what is closed is refused, and that is money to give back: counted and logged, so that
somebody does.
"""

from dataclasses import dataclass
from typing import NoReturn

from prometheus_client import Counter
from structlog.stdlib import BoundLogger

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.events.order_v1 import OrderCreated
from contracts.principal import ADMIN, BUYER, NODE, SERVICE, Principal
from contracts.subjects import MARKET, is_id
from services.chassis.aggregates import Aggregate, Cause, Target
from services.chassis.store import EventStore
from services.payments import domain
from services.payments.bodies import PaymentView
from services.payments.domain import Payment, Settle

PAYMENT = Aggregate("payment", Payment, domain.evolve)
_UNKNOWN = Problem(ErrorCode.NOT_FOUND, "there is no payment of this order, or it is not yours")


@dataclass(frozen=True, slots=True)
class Done:
    """What a message came to: the payment's id, which is its order's, and the cursor of its last event."""

    id: str
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Shown:
    """What a query answers: a payment, and the cursor at which it is so."""

    state: PaymentView
    cursor: Cursor


class Payments:
    """What may be asked of this service, over HTTP or by events."""

    def __init__(self, events: EventStore, refunds: Counter, log: BoundLogger) -> None:
        """`refunds` counts the successes that came to a closed payment."""
        self._events = events
        self._refunds = refunds
        self._log = log

    async def request(self, cause: Cause, order: OrderCreated) -> None:
        """Ask for the order's total, unless that was done, or the order was cancelled meanwhile."""
        target = PAYMENT.at(order.order_id, intent=order.intent_id, buyer=order.buyer_id, node=order.node_id)
        await self._events.change(target, cause, lambda state: domain.decide(state, domain.Request(order)), is_new=True)

    async def settle(self, cause: Cause, order_id: str, told: Settle) -> Done:
        """Act on the provider's word."""
        target = await self._find(order_id)
        try:
            change = await self._events.change(target, cause, lambda state: domain.decide(state, told))
        except Refused as error:
            if error.problem.code is ErrorCode.PAYMENT_CLOSED and told.outcome == "succeeded":
                self._refunds.inc()
                self._log.error("refund_due", order_id=order_id, reference=told.reference, webhook_id=told.webhook_id)
            raise
        return Done(order_id, change.cursor)

    async def show(self, who: Principal, order_id: str) -> Shown:
        """A payment, for its parties."""
        target = await self._find(order_id)
        if not _may_see(who, target):
            _refuse_as_unknown()
        found = await self._events.view(target)
        if found.state is None:
            _refuse_as_unknown()
        return Shown(PaymentView.of(found.state), found.cursor)

    async def _find(self, order_id: str) -> Target[Payment]:
        found = await self._events.find(PAYMENT, order_id) if is_id(order_id) else None
        if found is None:
            _refuse_as_unknown()
        return found


def _may_see(who: Principal, target: Target[Payment]) -> bool:
    keys = dict(zip(MARKET.tokens, MARKET.parse(target.subject), strict=True))
    return who.role in (ADMIN, SERVICE) or (who.role, who.sub) in ((BUYER, keys["buyer"]), (NODE, keys["node"]))


def _refuse_as_unknown() -> NoReturn:
    raise Refused(_UNKNOWN)
