"""Orders over the event store: which folds a decision needs, and who may see and cancel an order."""

from dataclasses import dataclass

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.events.data import Actor
from contracts.events.money import Money
from contracts.events.negotiation_v1 import NegotiationAccepted
from contracts.events.payment_v1 import PaymentFailed, PaymentSucceeded
from contracts.principal import ADMIN, BUYER, NODE, SERVICE, Principal
from contracts.subjects import MARKET
from services.chassis.aggregates import Aggregate, Cause, Target
from services.chassis.store import EventStore
from services.orders import domain
from services.orders.domain import Cancel, Order, Payment, Status

ORDER = Aggregate("order", Order, domain.evolve)
# Of a payment an order knows no more than where it is; payments has the whole.
PAYMENT = Aggregate("payment", Payment, domain.evolve_payment)

_UNKNOWN = Problem(ErrorCode.NOT_FOUND, "there is no such order, or it is not yours")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command came to: the order's id, and the cursor of its last event."""

    id: str
    cursor: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """An order as its parties see it."""

    order_id: str
    intent_id: str
    buyer_id: str
    node_id: str
    negotiation_id: str
    total: Money
    status: Status
    # None until it is asked for.
    payment: Payment | None
    reference: str | None
    cancelled_by: Actor | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A view, and the cursor at which it holds."""

    state: OrderView
    cursor: Cursor


class Orders:
    """What may be asked of this service, over HTTP or by events."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    async def create(self, cause: Cause, accepted: NegotiationAccepted) -> None:
        """Make the negotiation's order, unless it is there."""
        target = _order_of(accepted.order_id, accepted)
        await self._events.change(target, cause, lambda state: domain.create(state, accepted), is_new=True)

    async def settle(self, cause: Cause, payment: PaymentSucceeded | PaymentFailed) -> None:
        """Confirm or cancel the payment's order, unless it has ended so already."""
        target = _order_of(payment.order_id, payment)
        await self._events.change(target, cause, lambda state: domain.settle(state, payment))

    async def cancel(self, who: Principal, cause: Cause, order_id: str, reason: str) -> Done:
        """Cancel the order and close its payment, both or neither."""
        order = await self._find(order_id)
        by = _actor_of(who, order)
        payment = Target(PAYMENT, _beside(order))
        command = Cancel(by=by, reason=reason)
        change = await self._events.change_all(
            [order, payment], cause, lambda states: domain.cancel(states[0], states[1], command)
        )
        return Done(order_id, change.cursor)

    async def show(self, who: Principal, order_id: str) -> Shown:
        """The order and where its payment is, as of one cursor."""
        target = await self._find(order_id)
        _actor_of(who, target)
        found = await self._events.view_all((ORDER, PAYMENT), _beside(target, "*"))
        order: Order | None = found.states.get(target.subject)
        if order is None:
            raise Refused(_UNKNOWN)
        view = OrderView(
            order_id=order.order_id,
            intent_id=order.intent_id,
            buyer_id=order.buyer_id,
            node_id=order.node_id,
            negotiation_id=order.negotiation_id,
            total=order.total,
            status=order.status,
            payment=found.states.get(_beside(target)),
            reference=order.reference,
            cancelled_by=order.cancelled_by,
            reason=order.reason,
        )
        return Shown(view, found.cursor)

    async def _find(self, order_id: str) -> Target[Order]:
        target = await self._events.find(ORDER, order_id)
        if target is None:
            raise Refused(_UNKNOWN)
        return target


def _order_of(order_id: str, deal: NegotiationAccepted | PaymentSucceeded | PaymentFailed) -> Target[Order]:
    return ORDER.at(order_id, intent=deal.intent_id, buyer=deal.buyer_id, node=deal.node_id)


def _beside(order: Target[Order], aggregate: str = PAYMENT.kind) -> str:
    """The subject of the order's payment, or with a wild-card of both."""
    head, _, order_id = order.subject.rsplit(".", 2)
    return f"{head}.{aggregate}.{order_id}"


def _actor_of(who: Principal, order: Target[Order]) -> Actor:
    """For whom this principal acts. Whose an order is, is in its subject.

    Raises:
        Refused: for nobody; a stranger is told what is told of an order that does not exist.
    """
    keys = dict(zip(MARKET.tokens, MARKET.parse(order.subject), strict=True))
    if who.role in (ADMIN, SERVICE):
        return "system"
    if who.role == BUYER and who.sub == keys["buyer"]:
        return "buyer"
    if who.role == NODE and who.sub == keys["node"]:
        return "node"
    raise Refused(_UNKNOWN)
