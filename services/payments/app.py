"""The composition root of payments: what it offers over HTTP, and what it does of itself."""

from prometheus_client import Counter

from contracts.contract import Event
from services.chassis.publisher import Definition, Parts
from services.chassis.reactions import Source
from services.payments.handlers import Reactions
from services.payments.routes import Routes
from services.payments.settings import PaymentsSettings
from services.payments.signature import Signatures
from services.payments.store import Payments

SERVICE = "payments"
DESCRIPTION = "Payments: an order's total is asked for, and settled as the payment provider tells."
_ORDERS = "urn:a2a:service:orders"


def define(settings: PaymentsSettings, parts: Parts) -> Definition:
    """The service, as data."""
    refunds = Counter(
        "a2a_payments_refunds_due", "Successes told of payments that were closed before.", registry=parts.metrics
    )
    payments = Payments(parts.store, refunds, parts.log)
    routes = Routes(payments, Signatures(settings.payment_webhook_secret))
    return Definition(routes.operations(), _sources(Reactions(payments, _ORDERS)))


def _sources(reactions: Reactions) -> tuple[Source, ...]:
    async def request(event: Event) -> None:
        await reactions.order_created(event)

    return (Source("requests", {"ORDER_CREATED": request}),)
