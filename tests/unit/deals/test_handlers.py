"""Which events end which negotiations; where they are is a port, so no server is needed to tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.contract import Event
from contracts.events.negotiation_v1 import NegotiationOfferMade
from contracts.events.negotiation_v2 import NegotiationStarted
from contracts.registry import REGISTRY
from services.chassis.aggregates import Cause
from services.deals.domain.intent import Intent
from services.deals.domain.negotiation import About, Command, Expire, Negotiation, Reject, evolve
from services.deals.domain.quote import Quote
from services.deals.handlers import OneNegotiation, Reactions
from tests.harness.events import event

SOURCE = "urn:a2a:service:tests"

KEYS = {"intent": "i1", "buyer": "b1", "node": "n1"}


def stored(kind: str, **ids: Any) -> Event:
    return REGISTRY.read(event(kind, **ids))


STARTED = stored("NEGOTIATION_STARTED", **KEYS, quote="q1", negotiation="n1")
INTENT = Intent(intent_id="i1", buyer_id="b1", title="t", quantity=1, budget=None, expires_at=None)


NOW = datetime(2026, 11, 20, tzinfo=UTC)
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
    standing: bool = True
    told: list[tuple[str, str, Command]] = field(default_factory=list)

    async def open_ones(self, intent_id: str) -> Sequence[Negotiation]:
        return [one for one in self.open if one.intent_id == intent_id]

    async def about(self, event: NegotiationStarted) -> About:
        return self.what

    async def stands(self, event: NegotiationStarted | NegotiationOfferMade) -> bool:
        return self.standing

    async def tell(self, cause: Cause, one: OneNegotiation, command: Command) -> None:
        self.told.append((cause.key, one.negotiation_id, command))


async def told_by(event: Event, place: Place) -> list[tuple[str, Any]]:
    await Reactions(place, SOURCE).react(event)
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


async def test_an_offer_is_looked_at_again_when_it_is_due_while_it_stands() -> None:
    assert isinstance(STARTED.data, NegotiationStarted)
    due = STARTED.data.offer.expires_at
    place = Place()
    reactions = Reactions(place, SOURCE)
    assert await reactions.expire(STARTED, due - timedelta(seconds=1)) == due
    assert place.told == []
    assert await reactions.expire(STARTED, due) is None
    assert [(one, command) for _, one, command in place.told] == [("n1", Expire())]


async def test_an_offer_that_was_answered_is_not_looked_at_again() -> None:
    assert isinstance(STARTED.data, NegotiationStarted)
    before = STARTED.data.offer.expires_at - timedelta(seconds=1)
    assert await Reactions(Place(standing=False), SOURCE).expire(STARTED, before) is None


async def test_what_holds_no_offer_is_never_due() -> None:
    place = Place()
    assert await Reactions(place, SOURCE).expire(stored("QUOTE_WITHDRAWN", **KEYS), NOW) is None
    assert place.told == []


async def test_events_that_others_stored_are_left_to_them() -> None:
    place = Place()
    reactions = Reactions(place, "urn:a2a:service:deals")
    await reactions.react(stored("INTENT_CANCELLED", intent="i1", buyer="b1"))
    assert await reactions.expire(STARTED, NOW + timedelta(days=9999)) is None
    assert place.told == []
