"""The deals' operations over HTTP: paths, bodies and refusals, each bound to what the store does."""

from collections.abc import Mapping

from contracts.errors import ErrorCode
from contracts.principal import Principal
from services.chassis.commands import Asked, Command, Operation, Query
from services.deals import bodies
from services.deals.store import Deals, Done
from services.deals.views import IntentView, NegotiationView, Shown

_INTENT = "/v1/intents/{id}"
_QUOTE = "/v1/quotes/{id}"
_NEGOTIATION = "/v1/negotiations/{id}"
_TAKEN_BACK = (ErrorCode.INTENT_CLOSED, ErrorCode.QUOTE_CLOSED)
_TURN = (ErrorCode.FORBIDDEN, ErrorCode.NEGOTIATION_CLOSED, ErrorCode.OFFER_EXPIRED, ErrorCode.NOT_YOUR_TURN)
_TERMS = (ErrorCode.CURRENCY_MISMATCH, ErrorCode.EXPIRY_IN_PAST)


class Routes:
    """All operations of one place where deals are made."""

    def __init__(self, deals: Deals) -> None:
        self._deals = deals

    def operations(self) -> tuple[Operation, ...]:
        """For the app and its OpenAPI document."""
        return (*self._on_intents(), *self._on_quotes(), *self._on_negotiations())

    def _on_intents(self) -> tuple[Operation, ...]:
        return (
            Command(
                path="/v1/intents",
                summary="A buyer says what it wants; every node sees it on the board.",
                body=bodies.CreateIntent,
                handle=self._create_intent,
                refusals=(ErrorCode.FORBIDDEN, ErrorCode.EXPIRY_IN_PAST),
            ),
            Query(
                path=_INTENT,
                summary="An intent, with those of its quotes and negotiations that the asker is a party to.",
                answer=IntentView,
                handle=self._show_intent,
            ),
            Command(
                path=f"{_INTENT}/cancel",
                summary="The buyer does not want it any more; what is still negotiated over it ends.",
                body=bodies.CancelIntent,
                handle=self._cancel_intent,
                refusals=(ErrorCode.INTENT_CLOSED,),
            ),
        )

    def _on_quotes(self) -> tuple[Operation, ...]:
        return (
            Command(
                path=f"{_INTENT}/quotes",
                summary="A node offers to fulfil an intent.",
                body=bodies.GiveQuote,
                handle=self._give_quote,
                refusals=(ErrorCode.FORBIDDEN, ErrorCode.INTENT_CLOSED, ErrorCode.EXPIRY_IN_PAST),
            ),
            Command(
                path=f"{_QUOTE}/withdraw",
                summary="The node takes its quote back; what is still negotiated over it ends.",
                body=bodies.WithdrawQuote,
                handle=self._withdraw_quote,
                refusals=(ErrorCode.FORBIDDEN, ErrorCode.QUOTE_CLOSED),
            ),
        )

    def _on_negotiations(self) -> tuple[Operation, ...]:
        return (
            Command(
                path=f"{_INTENT}/negotiations",
                summary="The buyer, or the node that quoted, opens with an offer on a quote.",
                body=bodies.StartNegotiation,
                handle=self._start,
                refusals=(ErrorCode.FORBIDDEN, *_TAKEN_BACK, *_TERMS),
            ),
            Query(
                path=_NEGOTIATION,
                summary="A negotiation with its standing offer, for its parties.",
                answer=NegotiationView,
                handle=self._show_negotiation,
            ),
            Command(
                path=f"{_NEGOTIATION}/offers",
                summary="The side whose turn it is answers with an offer of its own.",
                body=bodies.MakeOffer,
                handle=self._offer,
                refusals=(*_TURN, ErrorCode.TOO_MANY_ROUNDS, *_TAKEN_BACK, *_TERMS),
            ),
            Command(
                path=f"{_NEGOTIATION}/accept",
                summary="The side whose turn it is takes the standing offer; it becomes an order.",
                body=bodies.AcceptOffer,
                handle=self._accept,
                refusals=(*_TURN, *_TAKEN_BACK),
            ),
            Command(
                path=f"{_NEGOTIATION}/reject",
                summary="Either side leaves, whoever is next.",
                body=bodies.RejectNegotiation,
                handle=self._reject,
                refusals=(ErrorCode.NEGOTIATION_CLOSED, ErrorCode.OFFER_EXPIRED),
            ),
        )

    async def _create_intent(self, asked: Asked[bodies.CreateIntent]) -> Done:
        return await self._deals.create_intent(asked.principal, asked.cause, asked.body)

    async def _cancel_intent(self, asked: Asked[bodies.CancelIntent]) -> Done:
        return await self._deals.cancel_intent(asked.principal, asked.cause, asked.ids["id"], asked.body)

    async def _give_quote(self, asked: Asked[bodies.GiveQuote]) -> Done:
        return await self._deals.give_quote(asked.principal, asked.cause, asked.ids["id"], asked.body)

    async def _withdraw_quote(self, asked: Asked[bodies.WithdrawQuote]) -> Done:
        return await self._deals.withdraw_quote(asked.principal, asked.cause, asked.ids["id"], asked.body)

    async def _start(self, asked: Asked[bodies.StartNegotiation]) -> Done:
        return await self._deals.start(asked.principal, asked.cause, asked.ids["id"], asked.body)

    async def _offer(self, asked: Asked[bodies.MakeOffer]) -> Done:
        return await self._deals.offer(asked.principal, asked.cause, asked.ids["id"], asked.body)

    async def _accept(self, asked: Asked[bodies.AcceptOffer]) -> Done:
        return await self._deals.accept(asked.principal, asked.cause, asked.ids["id"])

    async def _reject(self, asked: Asked[bodies.RejectNegotiation]) -> Done:
        return await self._deals.reject(asked.principal, asked.cause, asked.ids["id"], asked.body)

    async def _show_intent(self, who: Principal, ids: Mapping[str, str]) -> Shown[IntentView]:
        return await self._deals.show_intent(who, ids["id"])

    async def _show_negotiation(self, who: Principal, ids: Mapping[str, str]) -> Shown[NegotiationView]:
        return await self._deals.show_negotiation(who, ids["id"])
