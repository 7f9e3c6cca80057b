"""Which events end which negotiations; where they are is a port, so no server is needed to tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.contract import Event
from contracts.events.negotiation_v2 import NegotiationStarted
from contracts.registry import REGISTRY
from services.chassis.aggregates import Cause
from services.deals.domain.intent import Intent
from services.deals.domain.negotiation import About, Command, Expire, Negotiation, Reject, evolve
from services.deals.domain.quote import Quote
from services.deals.handlers import OneNegotiation, Reactions, due_at
from tests.harness.events import event

KEYS = {"intent": "i1", "buyer": "b1", "node": "n1"}


def stored(kind: str, **ids: Any) -> Event:
    return REGISTRY.read(event(kind, **ids))


STARTED = stored("NEGOTIATION_STARTED", **KEYS, quote="q1", negotiation="n1")
INTENT = Intent(intent_id="i1", buyer_id="b1", title="t", quantity=1, budget=None, expires_at=None)


NOTHING = About(None, None)


def negotiation(number: int, quote: str) -> Negotiation:
    assert isinstance(STARTED.data, NegotiationStarted)
    state = evolve(None, STARTED.data)
    assert state is not None
    return replace(state, negotiation_id=f"n{number}", quote_id=quote)


@dataclass
class Place:
    """Negotiations of a test."""

    open: Sequence[Negotiation] = (negotiation(1, "q1"), negotiation(2, "q2"))
    what: About = NOTHING
    told: list[tuple[str, str, Command]] = field(default_factory=list)

    async def open_ones(self, intent_id: str) -> Sequence[Negotiation]:
        return [one for one in self.open if one.intent_id == intent_id]

    async def about(self, event: NegotiationStarted) -> About:
        return self.what

    async def tell(self, cause: Cause, one: OneNegotiation, command: Command) -> None:
        self.told.append((cause.key, one.negotiation_id, command))


async def told_by(event: Event, place: Place) -> list[tuple[str, Any]]:
    await Reactions(place).react(event)
    assert all(cause == event.envelope.id for cause, _, _ in place.told)
    return [(one, command) for _, one, command in place.told]


async def test_a_cancelled_intent_ends_all_its_negotiations() -> None:
    reject = Reject(by="system", reason="intent_cancelled")
    found = await told_by(stored("INTENT_CANCELLED", intent="i1", buyer="b1"), Place())
    assert found == [("n1", reject), ("n2", reject)]


async def test_a_withdrawn_quote_ends_the_negotiations_on_it() -> None:
    found = await told_by(stored("QUOTE_WITHDRAWN", **KEYS, quote="q2"), Place())
    assert found == [("n2", Reject(by="system", reason="quote_withdrawn"))]


async def test_another_intents_negotiations_are_left_alone() -> None:
    assert await told_by(stored("INTENT_CANCELLED", intent="i9", buyer="b1"), Place()) == []


async def test_a_negotiation_that_came_too_late_ends() -> None:
    quote = Quote(
        quote_id="q1",
        intent_id="i1",
        buyer_id="b1",
        node_id="n1",
        price=negotiation(1, "q1").offer.price,
        valid_until=None,
    )
    assert await told_by(STARTED, Place(what=About(INTENT, quote))) == []
    cancelled = About(replace(INTENT, cancelled=True), quote)
    assert await told_by(STARTED, Place(what=cancelled)) == [("n1", Reject(by="system", reason="intent_cancelled"))]
    withdrawn = About(INTENT, replace(quote, withdrawn=True))
    assert await told_by(STARTED, Place(what=withdrawn)) == [("n1", Reject(by="system", reason="quote_withdrawn"))]


async def test_what_is_not_known_is_no_reason_to_end() -> None:
    assert await told_by(STARTED, Place()) == []


async def test_an_offers_end_is_looked_at_when_it_is_due() -> None:
    place = Place()
    await Reactions(place).expire(STARTED)
    await Reactions(place).expire(stored("QUOTE_WITHDRAWN", **KEYS))
    assert [(one, command) for _, one, command in place.told] == [("n1", Expire())]
    assert due_at(stored("QUOTE_WITHDRAWN", **KEYS)) is None
    due = due_at(stored("NEGOTIATION_OFFER_MADE", **KEYS))
    assert due is not None
    assert due > datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=1)
