"""The payments' operations over HTTP: the provider's message, which is signed and bears no token, and a query."""

from collections.abc import Mapping

from contracts.contract import Violation
from contracts.errors import ErrorCode
from contracts.principal import Principal
from services.chassis.aggregates import Cause
from services.chassis.commands import Delivery, InvalidCommand, Operation, Query, Webhook, parsed
from services.payments.bodies import PaymentView, Result
from services.payments.domain import Settle
from services.payments.signature import ID, SIGNATURE, TIMESTAMP, Signatures
from services.payments.store import Done, Payments, Shown

_HEADERS = {
    ID: "The message's own id: the same for each try to deliver it.",
    TIMESTAMP: "When it was sent, in Unix seconds; good for 300 s before and after.",
    SIGNATURE: "`v1,<base64>` of HMAC-SHA256 over `<id>.<timestamp>.<body>`; several, separated by spaces.",
}


class Routes:
    """All operations of one place where payments are settled."""

    def __init__(self, payments: Payments, signatures: Signatures) -> None:
        self._payments = payments
        self._signatures = signatures

    def operations(self) -> tuple[Operation, ...]:
        """For the app and its OpenAPI document."""
        return (
            Query(
                path="/v1/payments/{order_id}",
                summary="The payment of an order, for its parties.",
                answer=PaymentView,
                handle=self._show,
            ),
            Webhook(
                path="/v1/payments/{order_id}/result",
                summary="The payment provider tells how a payment went (Standard Webhooks).",
                body=Result,
                handle=self._settle,
                headers=_HEADERS,
                refusals=(
                    ErrorCode.INVALID_SIGNATURE,
                    ErrorCode.PAYMENT_CLOSED,
                    ErrorCode.IDEMPOTENCY_KEY_REUSED,
                ),
            ),
        )

    async def _settle(self, delivery: Delivery) -> Done:
        webhook_id = self._signatures.judge(delivery.body, delivery.headers)
        result = parsed(Result, delivery.body)
        told = Settle(webhook_id=webhook_id, outcome=result.status, reference=result.reference, reason=result.reason)
        if result.order_id not in (None, delivery.ids["order_id"]):
            raise InvalidCommand([Violation("/order_id", "the message is about another order")])
        said = [delivery.ids["order_id"], result.model_dump(mode="json")]
        cause = Cause.command("payment-provider", webhook_id, said, delivery.traceparent)
        return await self._payments.settle(cause, delivery.ids["order_id"], told)

    async def _show(self, who: Principal, ids: Mapping[str, str]) -> Shown:
        return await self._payments.show(who, ids["order_id"])
