"""The market's events, as data: each type and version with its model, its subject and a whole example.

The order is that in which a deal has them.
"""

from collections.abc import Mapping
from typing import Any

from contracts.contract import Contract, Model, Upcaster
from contracts.events import intent_v1, negotiation_v1, negotiation_v2, order_v1, payment_v1, quote_v1
from contracts.subjects import MARKET, PLACEHOLDER

Example = Mapping[str, Any]

_INTENT = {"intent_id": "intent_7f3a", "buyer_id": "buyer_ada"}
_DEAL = {**_INTENT, "node_id": "node_oslo"}
_QUOTE = {"quote_id": "quote_91c0"}
_NEGOTIATION = {"negotiation_id": "negotiation_22d1"}
_ORDER = {"order_id": "order_5be8"}
_OPENING = {"amount": "1100.00", "currency": "EUR"}
_PRICE = {"amount": "1250.00", "currency": "EUR"}


def _intent(kind: str, model: Model, example: Example) -> Contract:
    keys = {"intent": "intent_id", "buyer": "buyer_id", "aggregate_id": "intent_id"}
    fixed = {"aggregate": "intent", "node": PLACEHOLDER}
    return Contract(kind, 1, model, "MARKET", MARKET, keys, fixed, {**_INTENT, **example})


def _of_deal(
    aggregate: str, kind: str, model: Model, example: Example, *, version: int = 1, upcast: Upcaster | None = None
) -> Contract:
    # A payment bears its order's id.
    id_field = f"{'order' if aggregate == 'payment' else aggregate}_id"
    keys = {"intent": "intent_id", "buyer": "buyer_id", "node": "node_id", "aggregate_id": id_field}
    fixed = {"aggregate": aggregate}
    return Contract(kind, version, model, "MARKET", MARKET, keys, fixed, {**_DEAL, **example}, upcast)


MARKET_EVENTS = (
    _intent(
        "INTENT_CREATED",
        intent_v1.IntentCreated,
        {
            "title": "200 hours of GPU time",
            "quantity": 200,
            "budget": {"amount": "1500.00", "currency": "EUR"},
            "expires_at": "2026-12-01T12:00:00Z",
        },
    ),
    _intent("INTENT_CANCELLED", intent_v1.IntentCancelled, {"reason": "bought elsewhere"}),
    _of_deal(
        "quote",
        "QUOTE_RECEIVED",
        quote_v1.QuoteReceived,
        {**_QUOTE, "price": _PRICE, "valid_until": "2026-11-30T12:00:00Z"},
    ),
    _of_deal("quote", "QUOTE_WITHDRAWN", quote_v1.QuoteWithdrawn, {**_QUOTE, "reason": "sold out"}),
    _of_deal(
        "negotiation",
        "NEGOTIATION_STARTED",
        negotiation_v1.NegotiationStarted,
        {**_NEGOTIATION, **_QUOTE, "opening_offer": _OPENING, "expires_at": "2026-11-29T12:00:00Z"},
        upcast=negotiation_v2.from_v1,
    ),
    _of_deal(
        "negotiation",
        "NEGOTIATION_STARTED",
        negotiation_v2.NegotiationStarted,
        {
            **_NEGOTIATION,
            **_QUOTE,
            "quantity": 200,
            "offer": {"round": 1, "by": "buyer", "price": _OPENING, "expires_at": "2026-11-29T12:00:00Z"},
        },
        version=2,
    ),
    _of_deal(
        "negotiation",
        "NEGOTIATION_OFFER_MADE",
        negotiation_v1.NegotiationOfferMade,
        {**_NEGOTIATION, "offer": {"round": 2, "by": "node", "price": _PRICE, "expires_at": "2026-11-29T18:00:00Z"}},
    ),
    _of_deal(
        "negotiation",
        "NEGOTIATION_ACCEPTED",
        negotiation_v1.NegotiationAccepted,
        {**_NEGOTIATION, **_ORDER, "by": "buyer", "round": 2, "price": _PRICE},
    ),
    _of_deal(
        "negotiation",
        "NEGOTIATION_REJECTED",
        negotiation_v1.NegotiationRejected,
        {**_NEGOTIATION, "by": "node", "reason": "rejected", "text": "below our costs"},
    ),
    _of_deal("order", "ORDER_CREATED", order_v1.OrderCreated, {**_ORDER, **_NEGOTIATION, "total": _PRICE}),
    _of_deal("order", "ORDER_CONFIRMED", order_v1.OrderConfirmed, {**_ORDER, "reference": "psp-2026-000417"}),
    _of_deal("order", "ORDER_CANCELLED", order_v1.OrderCancelled, {**_ORDER, "by": "buyer", "reason": "not needed"}),
    _of_deal("payment", "PAYMENT_REQUESTED", payment_v1.PaymentRequested, {**_ORDER, "amount": _PRICE}),
    _of_deal(
        "payment",
        "PAYMENT_SUCCEEDED",
        payment_v1.PaymentSucceeded,
        {**_ORDER, "amount": _PRICE, "reference": "psp-2026-000417", "webhook_id": "msg_2mV0c4"},
    ),
    _of_deal(
        "payment",
        "PAYMENT_FAILED",
        payment_v1.PaymentFailed,
        {**_ORDER, "amount": _PRICE, "reason": "card declined", "webhook_id": "msg_2mV0c4"},
    ),
)
