"""Deals over the event store: which folds a command needs, and which aggregate it changes.

An aggregate's keys are in its subject, so who is a party is known before anything is read, and what a negotiation
is about has a subject that follows from its own. Rules across aggregates are judged on folds read just before;
what slips through that moment is mended by the reactions (docs/adr/0023).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.events.data import Actor, Party
from contracts.events.negotiation_v1 import NegotiationOfferMade
from contracts.events.negotiation_v2 import NegotiationStarted
from contracts.principal import ADMIN, BUYER, NODE, SERVICE, Principal
from contracts.publishing import derived_id
from contracts.subjects import MARKET, is_id
from services.chassis.aggregates import Aggregate, Cause, Decision, Target
from services.chassis.store import EventStore
from services.deals import bodies
from services.deals.domain import intent, negotiation, quote
from services.deals.domain.intent import Intent
from services.deals.domain.negotiation import About, Negotiation, Status, Terms
from services.deals.domain.parties import actor_of, party_of, unknown
from services.deals.domain.quote import Quote
from services.deals.handlers import OneNegotiation
from services.deals.views import IntentView, NegotiationView, Shown

INTENT = Aggregate("intent", Intent, intent.evolve)
QUOTE = Aggregate("quote", Quote, quote.evolve)
NEGOTIATION = Aggregate("negotiation", Negotiation, negotiation.evolve)

State = TypeVar("State")

# How long an offer stands that names no end; as long as one of the first version of its event.
OFFER_LASTS = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command came to: the aggregate's id, and the cursor of its last event."""

    id: str
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose an aggregate is, as its subject says."""

    intent: str
    buyer: str
    node: str


def keys_of(target: Target[Any]) -> Keys:
    """The keys in a subject."""
    values = dict(zip(MARKET.tokens, MARKET.parse(target.subject), strict=True))
    return Keys(values["intent"], values["buyer"], values["node"])


class Deals:
    """What may be asked of this service, over HTTP or whatever else."""

    def __init__(self, events: EventStore, clock: Callable[[], datetime]) -> None:
        self._events = events
        self._clock = clock

    # Intents.

    async def create_intent(self, who: Principal, cause: Cause, body: bodies.CreateIntent) -> Done:
        """A buyer says what it wants."""
        _require(who, BUYER)
        made = derived_id("intent", cause.key)
        command = intent.Create(
            intent_id=made,
            buyer_id=who.sub,
            title=body.title,
            quantity=body.quantity,
            budget=body.budget,
            expires_at=body.expires_at,
        )
        target = INTENT.at(made, intent=made, buyer=who.sub)
        change = await self._events.change(
            target, cause, lambda state: intent.decide(state, command, self._clock()), is_new=True
        )
        return Done(made, change.cursor)

    async def cancel_intent(self, who: Principal, cause: Cause, intent_id: str, body: bodies.CancelIntent) -> Done:
        """The buyer does not want it any more."""
        target = await self._find(INTENT, intent_id)
        if actor_of(who, buyer_id=keys_of(target).buyer) is None:
            _refuse(unknown("intent"))
        command = intent.Cancel(reason=body.reason)
        change = await self._events.change(target, cause, lambda state: intent.decide(state, command, self._clock()))
        return Done(intent_id, change.cursor)

    async def show_intent(self, who: Principal, intent_id: str) -> Shown[IntentView]:
        """An intent with what the asker may see of its quotes and negotiations. Nodes see it on the board anyway."""
        if not is_id(intent_id):
            _refuse(unknown("intent"))
        found = await self._events.view_all((INTENT, QUOTE, NEGOTIATION), MARKET.filter({"intent": intent_id}))
        parts = found.states.values()
        wanted = next((part for part in parts if isinstance(part, Intent)), None)
        if wanted is None or (who.role != NODE and actor_of(who, buyer_id=wanted.buyer_id) is None):
            _refuse(unknown("intent"))
        node = who.sub if who.role == NODE else None
        return Shown(IntentView.of(wanted, parts, self._clock(), node_id=node), found.cursor)

    # Quotes.

    async def give_quote(self, who: Principal, cause: Cause, intent_id: str, body: bodies.GiveQuote) -> Done:
        """A node quotes on an intent that is open."""
        _require(who, NODE)
        target = await self._find(INTENT, intent_id)
        wanted = (await self._events.view(target)).state
        if wanted is None:
            _refuse(unknown("intent"))
        made = derived_id("quote", intent_id, cause.key)
        command = quote.Give(
            quote_id=made, node_id=who.sub, intent=wanted, price=body.price, valid_until=body.valid_until
        )
        change = await self._events.change(
            QUOTE.at(made, intent=intent_id, buyer=wanted.buyer_id, node=who.sub),
            cause,
            lambda state: quote.decide(state, command, self._clock()),
            is_new=True,
        )
        return Done(made, change.cursor)

    async def withdraw_quote(self, who: Principal, cause: Cause, quote_id: str, body: bodies.WithdrawQuote) -> Done:
        """The node takes its quote back."""
        target = await self._find(QUOTE, quote_id)
        keys = keys_of(target)
        actor = actor_of(who, buyer_id=keys.buyer, node_id=keys.node)
        if actor is None:
            _refuse(unknown("quote"))
        if actor == "buyer":
            _refuse(Problem(ErrorCode.FORBIDDEN, "a quote is withdrawn by its node"))
        command = quote.Withdraw(reason=body.reason)
        change = await self._events.change(target, cause, lambda state: quote.decide(state, command, self._clock()))
        return Done(quote_id, change.cursor)

    # Negotiations.

    async def start(self, who: Principal, cause: Cause, intent_id: str, body: bodies.StartNegotiation) -> Done:
        """Buyer or node opens on a quote."""
        target = await self._find(QUOTE, body.quote_id)
        keys = keys_of(target)
        by = _party(who, keys, "quote")
        if keys.intent != intent_id:
            _refuse(unknown("quote"))
        wanted, offered = await self._about(keys, body.quote_id)
        if wanted is None or offered is None:
            _refuse(unknown("quote"))
        # The node is in the subject and the body names it by its quote: without it one id could be two negotiations.
        made = derived_id("negotiation", intent_id, keys.node, cause.key)
        command = negotiation.Start(
            negotiation_id=made,
            by=by,
            intent=wanted,
            quote=offered,
            terms=self._terms(body),
            quantity=body.quantity or wanted.quantity,
        )
        change = await self._events.change(
            NEGOTIATION.at(made, intent=intent_id, buyer=keys.buyer, node=keys.node),
            cause,
            lambda state: negotiation.decide(state, command, self._clock()),
            is_new=True,
        )
        return Done(made, change.cursor)

    async def offer(self, who: Principal, cause: Cause, negotiation_id: str, body: bodies.MakeOffer) -> Done:
        """The side whose turn it is answers with an offer of its own."""
        target, by, about = await self._turn(who, negotiation_id)
        return await self._negotiate(target, cause, negotiation.MakeOffer(by=by, about=about, terms=self._terms(body)))

    async def accept(self, who: Principal, cause: Cause, negotiation_id: str) -> Done:
        """The side whose turn it is takes the standing offer."""
        target, by, about = await self._turn(who, negotiation_id)
        return await self._negotiate(target, cause, negotiation.Accept(by=by, about=about))

    async def reject(self, who: Principal, cause: Cause, negotiation_id: str, body: bodies.RejectNegotiation) -> Done:
        """Either side leaves; admins and services end it for the system."""
        target = await self._find(NEGOTIATION, negotiation_id)
        by = self._actor(who, target)
        return await self._negotiate(target, cause, negotiation.Reject(by=by, text=body.reason))

    async def show_negotiation(self, who: Principal, negotiation_id: str) -> Shown[NegotiationView]:
        """A negotiation, for its parties."""
        target = await self._find(NEGOTIATION, negotiation_id)
        self._actor(who, target)
        found = await self._events.view(target)
        if found.state is None:
            _refuse(unknown("negotiation"))
        return Shown(NegotiationView.of(found.state, self._clock()), found.cursor)

    # What the reactions ask: `services.deals.handlers.Negotiations`.

    async def open_ones(self, intent_id: str) -> Sequence[Negotiation]:
        """Those of an intent that have not ended."""
        subjects = MARKET.filter({"intent": intent_id, "aggregate": NEGOTIATION.kind})
        states = (await self._events.view_all((NEGOTIATION,), subjects)).states.values()
        return [one for one in states if isinstance(one, Negotiation) and one.status is Status.OPEN]

    async def about(self, event: NegotiationStarted) -> About:
        """What a negotiation is about, as it stands."""
        keys = Keys(event.intent_id, event.buyer_id, event.node_id)
        return About(*await self._about(keys, event.quote_id))

    async def stands(self, event: NegotiationStarted | NegotiationOfferMade) -> bool:
        """Whether the offer in this event is still the standing one of an open negotiation."""
        state = (await self._events.view(_target_of(event))).state
        return state is not None and state.status is Status.OPEN and state.offer.round == event.offer.round

    async def tell(self, cause: Cause, one: OneNegotiation, command: negotiation.Command) -> None:
        """Give one a command of the system; one that has ended stays as it is."""

        def decide(state: Negotiation | None) -> Decision:
            if state is None or state.status is not Status.OPEN:
                return ()
            return negotiation.decide(state, command, self._clock())

        await self._events.change(_target_of(one), cause, decide)

    # What they share.

    async def _negotiate(self, target: Target[Negotiation], cause: Cause, command: negotiation.Command) -> Done:
        change = await self._events.change(
            target, cause, lambda state: negotiation.decide(state, command, self._clock())
        )
        return Done(target.id, change.cursor)

    async def _turn(self, who: Principal, negotiation_id: str) -> tuple[Target[Negotiation], Party, About]:
        """A negotiation, which party asks, and what it is about."""
        target = await self._find(NEGOTIATION, negotiation_id)
        keys = keys_of(target)
        by = _party(who, keys, "negotiation")
        # Its quote is that of its first event, so what is known here is good enough, and a read is saved.
        state = await self._events.known(target) or (await self._events.view(target)).state
        if state is None:
            _refuse(unknown("negotiation"))
        return target, by, About(*await self._about(keys, state.quote_id))

    async def _about(self, keys: Keys, quote_id: str) -> tuple[Intent | None, Quote | None]:
        wanted, offered = await asyncio.gather(
            self._events.view(INTENT.at(keys.intent, intent=keys.intent, buyer=keys.buyer)),
            self._events.view(QUOTE.at(quote_id, intent=keys.intent, buyer=keys.buyer, node=keys.node)),
        )
        return wanted.state, offered.state

    def _terms(self, body: bodies.MakeOffer) -> Terms:
        return Terms(price=body.price, expires_at=body.expires_at or self._clock() + OFFER_LASTS)

    def _actor(self, who: Principal, target: Target[Negotiation]) -> Actor:
        keys = keys_of(target)
        found = actor_of(who, buyer_id=keys.buyer, node_id=keys.node)
        if found is None:
            _refuse(unknown("negotiation"))
        return found

    async def _find(self, aggregate: Aggregate[State], aggregate_id: str) -> Target[State]:
        found = await self._events.find(aggregate, aggregate_id) if is_id(aggregate_id) else None
        if found is None:
            _refuse(unknown(aggregate.kind))
        return found


def _target_of(one: OneNegotiation) -> Target[Negotiation]:
    return NEGOTIATION.at(one.negotiation_id, intent=one.intent_id, buyer=one.buyer_id, node=one.node_id)


def _party(who: Principal, keys: Keys, kind: str) -> Party:
    """The side that the principal is; who only oversees has no side to speak for."""
    found = party_of(who, buyer_id=keys.buyer, node_id=keys.node)
    if found is None:
        overseer = who.role in (ADMIN, SERVICE)
        _refuse(Problem(ErrorCode.FORBIDDEN, "only buyer or node can do this") if overseer else unknown(kind))
    return found


def _require(who: Principal, role: str) -> None:
    if who.role != role:
        _refuse(Problem(ErrorCode.FORBIDDEN, f"only a {role} can do this"))


def _refuse(problem: Problem) -> NoReturn:
    raise Refused(problem)
