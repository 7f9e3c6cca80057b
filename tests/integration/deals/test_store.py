"""Deals over a real event store: who may do what, what a repetition gets, and what reactions end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.contract import Event
from contracts.errors import ErrorCode, Refused
from contracts.principal import Principal
from contracts.publishing import read
from services.chassis.aggregates import Cause
from services.deals import bodies
from services.deals.handlers import Reactions
from services.deals.store import Deals, Done
from tests.harness.dealing import euros
from tests.harness.events import event, fresh
from tests.harness.streams import all_of, looking_at
from tests.harness.toys import Site, storing

HOUR = timedelta(hours=1)


def cause(key: str | None = None, said: object = None) -> Cause:
    return Cause.command("somebody", key or fresh("key"), said)


@dataclass
class Scene:
    """A buyer and a node with a store of their own, on a clock that stands until it is moved."""

    site: Site
    client: Client
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    ada: Principal = field(default_factory=lambda: Principal(fresh("buyer"), "buyer", 4e9))
    oslo: Principal = field(default_factory=lambda: Principal(fresh("node"), "node", 4e9))

    def __post_init__(self) -> None:
        self.deals = Deals(self.site.store, lambda: self.now)
        self.reactions = Reactions(self.deals, "urn:a2a:service:test")

    async def intent(self, **body: Any) -> Done:
        return await self.deals.create_intent(self.ada, cause(), bodies.CreateIntent(title="an hour", **body))

    async def quote(self, intent: str, amount: str = "100.00", **body: Any) -> Done:
        said = bodies.GiveQuote(price=euros(amount), **body)  # type: ignore[arg-type]
        return await self.deals.give_quote(self.oslo, cause(), intent, said)

    def opening(self, quote: str, amount: str = "90.00", **body: Any) -> bodies.StartNegotiation:
        return bodies.StartNegotiation(quote_id=quote, price=euros(amount), **body)  # type: ignore[arg-type]

    async def begun(self, **body: Any) -> tuple[str, str, str]:
        """An intent, a quote on it and a negotiation that the buyer has opened."""
        intent = (await self.intent()).id
        quote = (await self.quote(intent)).id
        started = await self.deals.start(self.ada, cause(), intent, self.opening(quote, **body))
        return intent, quote, started.id

    async def kinds(self, intent: str) -> list[str]:
        """The types of all events of a deal, in order."""
        return [one.document["type"] for one in await all_of(self.client, f"market.{intent}.>")]

    async def expire(self, event: Event) -> None:
        """The timer of an offer comes."""
        await self.reactions.expire(event, self.now)

    async def react(self, intent: str, kind: str, reaction: Callable[[Any], Any] | None = None) -> None:
        """Let the stored event of this kind be reacted to, twice."""
        stored = [one for one in await all_of(self.client, f"market.{intent}.>") if one.document["type"] == kind]
        for _ in range(2):
            await (reaction or self.reactions.react)(read(stored[-1].payload))


@pytest.fixture
async def scene(nats_server: str) -> AsyncIterator[Scene]:
    async with storing(nats_server) as site, looking_at(nats_server) as client:
        yield Scene(site, client)


@contextlib.contextmanager
def refused_as(code: ErrorCode) -> Any:
    with pytest.raises(Refused) as refused:
        yield
    assert refused.value.problem.code is code


async def test_a_deal_goes_from_intent_to_acceptance(scene: Scene) -> None:
    intent, _, negotiation = await scene.begun()
    await scene.deals.offer(scene.oslo, cause(), negotiation, bodies.MakeOffer(price=euros("95.00")))  # type: ignore[arg-type]
    await scene.deals.accept(scene.ada, cause(), negotiation)
    assert await scene.kinds(intent) == [
        "INTENT_CREATED",
        "QUOTE_RECEIVED",
        "NEGOTIATION_STARTED",
        "NEGOTIATION_OFFER_MADE",
        "NEGOTIATION_ACCEPTED",
    ]
    found = await scene.deals.show_negotiation(scene.oslo, negotiation)
    view = found.state
    assert (view.status, view.offer.price.amount, view.quantity) == ("accepted", "95.00", 1)
    assert view.order_id is not None
    assert found.cursor.sequence > 0
    events = [one.document for one in await all_of(scene.client, f"market.{intent}.>")]
    assert {one["correlationid"] for one in events} == {intent}
    assert {one["schemaversion"] for one in events if one["type"] == "NEGOTIATION_STARTED"} == {2}


async def test_a_repeated_command_answers_the_same_and_stores_nothing(scene: Scene) -> None:
    create, quote_cause, start, accept = cause(), cause(), cause(), cause()
    made = [await scene.deals.create_intent(scene.ada, create, bodies.CreateIntent(title="t")) for _ in range(2)]
    body = bodies.GiveQuote(price=euros("10"))  # type: ignore[arg-type]
    quoted = [await scene.deals.give_quote(scene.oslo, quote_cause, made[0].id, body) for _ in range(2)]
    opening = scene.opening(quoted[0].id)
    begun = [await scene.deals.start(scene.ada, start, made[0].id, opening) for _ in range(2)]
    taken = [await scene.deals.accept(scene.oslo, accept, begun[0].id) for _ in range(2)]
    for first, second in (made, quoted, begun, taken):
        assert first == second
    assert len(await scene.kinds(made[0].id)) == 4


async def test_a_stranger_is_told_what_is_told_of_an_id_that_nobody_has(scene: Scene) -> None:
    intent, quote, negotiation = await scene.begun()
    ids = {"intent": (intent, fresh("i")), "quote": (quote, fresh("q")), "negotiation": (negotiation, fresh("n"))}
    eve, lima = Principal(fresh("eve"), "buyer", 4e9), Principal(fresh("lima"), "node", 4e9)
    deals, offer = scene.deals, bodies.MakeOffer(price=euros("1"))  # type: ignore[arg-type]
    attempts: list[tuple[str, Callable[[str], Any]]] = [
        ("intent", lambda one: deals.show_intent(eve, one)),
        ("intent", lambda one: deals.cancel_intent(eve, cause(), one, bodies.CancelIntent())),
        ("intent", lambda one: deals.cancel_intent(lima, cause(), one, bodies.CancelIntent())),
        ("quote", lambda one: deals.withdraw_quote(lima, cause(), one, bodies.WithdrawQuote())),
        ("quote", lambda one: deals.start(eve, cause(), intent, scene.opening(one))),
        ("quote", lambda one: deals.start(lima, cause(), intent, scene.opening(one))),
        ("negotiation", lambda one: deals.show_negotiation(eve, one)),
        ("negotiation", lambda one: deals.accept(lima, cause(), one)),
        ("negotiation", lambda one: deals.offer(eve, cause(), one, offer)),
        ("negotiation", lambda one: deals.reject(lima, cause(), one, bodies.RejectNegotiation())),
    ]
    for kind, attempt in attempts:
        told = []
        for one in ids[kind]:
            with pytest.raises(Refused) as refused:
                await attempt(one)
            told.append(refused.value.problem)
        assert told[0] == told[1]
        assert told[0].code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("text", ["", "-", "*", ">", "a.b", "a b", "x" * 65, "ü"])
async def test_what_is_no_id_is_not_found(scene: Scene, text: str) -> None:
    with refused_as(ErrorCode.NOT_FOUND):
        await scene.deals.show_intent(scene.ada, text)
    with refused_as(ErrorCode.NOT_FOUND):
        await scene.deals.show_negotiation(scene.ada, text)
    with refused_as(ErrorCode.NOT_FOUND):
        await scene.quote(text)


async def test_each_role_does_its_own(scene: Scene) -> None:
    intent, quote, negotiation = await scene.begun()
    admin, service = Principal("root", "admin", 4e9), Principal("s", "service", 4e9)
    for who in (scene.oslo, admin, service):
        with refused_as(ErrorCode.FORBIDDEN):
            await scene.deals.create_intent(who, cause(), bodies.CreateIntent(title="t"))
    with refused_as(ErrorCode.FORBIDDEN):
        await scene.deals.withdraw_quote(scene.ada, cause(), quote, bodies.WithdrawQuote())
    with refused_as(ErrorCode.FORBIDDEN):
        await scene.deals.accept(admin, cause(), negotiation)
    await scene.deals.withdraw_quote(service, cause(), quote, bodies.WithdrawQuote())
    await scene.deals.reject(admin, cause(), negotiation, bodies.RejectNegotiation(reason="fraud"))
    await scene.deals.cancel_intent(admin, cause(), intent, bodies.CancelIntent())
    assert (await scene.deals.show_negotiation(service, negotiation)).state.rejected_by == "system"


async def test_a_node_sees_of_an_intent_its_own_quotes_and_negotiations(scene: Scene) -> None:
    intent, quote, negotiation = await scene.begun()
    lima = Principal(fresh("lima"), "node", 4e9)
    other = await scene.deals.give_quote(lima, cause(), intent, bodies.GiveQuote(price=euros("5")))  # type: ignore[arg-type]
    whole = (await scene.deals.show_intent(scene.ada, intent)).state
    assert {one.quote_id for one in whole.quotes} == {quote, other.id}
    assert [one.negotiation_id for one in whole.negotiations] == [negotiation]
    seen = (await scene.deals.show_intent(lima, intent)).state
    assert [one.quote_id for one in seen.quotes] == [other.id]
    assert seen.negotiations == ()


async def test_nothing_begins_on_what_was_taken_back(scene: Scene) -> None:
    intent, quote, _ = await scene.begun()
    await scene.deals.withdraw_quote(scene.oslo, cause(), quote, bodies.WithdrawQuote())
    with refused_as(ErrorCode.QUOTE_CLOSED):
        await scene.deals.start(scene.ada, cause(), intent, scene.opening(quote))
    await scene.deals.cancel_intent(scene.ada, cause(), intent, bodies.CancelIntent())
    with refused_as(ErrorCode.INTENT_CLOSED):
        await scene.quote(intent)


async def test_a_quote_of_another_intent_is_not_found(scene: Scene) -> None:
    _, quote, _ = await scene.begun()
    other = await scene.intent()
    with refused_as(ErrorCode.NOT_FOUND):
        await scene.deals.start(scene.ada, cause(), other.id, scene.opening(quote))


@pytest.mark.parametrize("what", ["intent_cancelled", "quote_withdrawn"])
async def test_taking_back_ends_open_negotiations_once_and_leaves_ended_ones(scene: Scene, what: str) -> None:
    intent, quote, first = await scene.begun()
    second = await scene.deals.start(scene.ada, cause(), intent, scene.opening(quote))
    elsewhere = await scene.quote(intent)
    third = await scene.deals.start(scene.ada, cause(), intent, scene.opening(elsewhere.id))
    await scene.deals.accept(scene.oslo, cause(), first)
    if what == "intent_cancelled":
        await scene.deals.cancel_intent(scene.ada, cause(), intent, bodies.CancelIntent())
    else:
        await scene.deals.withdraw_quote(scene.oslo, cause(), quote, bodies.WithdrawQuote())
    await scene.react(intent, what.upper())
    views = [(await scene.deals.show_negotiation(scene.ada, one)).state for one in (first, second.id, third.id)]
    assert [view.status for view in views[:2]] == ["accepted", "rejected"]
    assert (views[1].rejected_by, views[1].reason) == ("system", what)
    assert views[2].status == ("rejected" if what == "intent_cancelled" else "open")
    rejected = (await scene.kinds(intent)).count("NEGOTIATION_REJECTED")
    assert rejected == (2 if what == "intent_cancelled" else 1)


@pytest.mark.parametrize("what", ["intent_cancelled", "quote_withdrawn"])
async def test_a_negotiation_that_began_a_moment_too_late_ends_by_its_own_event(scene: Scene, what: str) -> None:
    intent, quote, negotiation = await scene.begun()
    # As if the start had been decided before this and stored after it.
    if what == "intent_cancelled":
        await scene.deals.cancel_intent(scene.ada, cause(), intent, bodies.CancelIntent())
    else:
        await scene.deals.withdraw_quote(scene.oslo, cause(), quote, bodies.WithdrawQuote())
    await scene.react(intent, "NEGOTIATION_STARTED")
    view = (await scene.deals.show_negotiation(scene.ada, negotiation)).state
    assert (view.status, view.reason) == ("rejected", what)


async def test_a_negotiation_that_began_in_time_goes_on(scene: Scene) -> None:
    intent, _, negotiation = await scene.begun()
    await scene.react(intent, "NEGOTIATION_STARTED")
    assert (await scene.deals.show_negotiation(scene.ada, negotiation)).state.status == "open"


async def test_an_offer_that_runs_out_ends_the_negotiation_visibly_and_once(scene: Scene) -> None:
    intent, _, negotiation = await scene.begun(expires_at=scene.now + HOUR)
    await scene.react(
        intent, "NEGOTIATION_STARTED", lambda event: scene.reactions.expire(event, scene.now)
    )  # too early: nothing happens
    assert (await scene.deals.show_negotiation(scene.ada, negotiation)).state.status == "open"
    scene.now += HOUR
    assert (await scene.deals.show_negotiation(scene.ada, negotiation)).state.status == "expired"
    with refused_as(ErrorCode.OFFER_EXPIRED):
        await scene.deals.accept(scene.oslo, cause(), negotiation)
    await scene.react(intent, "NEGOTIATION_STARTED", scene.expire)
    view = (await scene.deals.show_negotiation(scene.ada, negotiation)).state
    assert (view.status, view.rejected_by, view.reason) == ("rejected", "system", "expired")
    assert (await scene.kinds(intent)).count("NEGOTIATION_REJECTED") == 1


async def test_the_first_version_of_a_start_still_folds_and_can_be_accepted(scene: Scene) -> None:
    intent, quote, _ = await scene.begun()
    negotiation = fresh("negotiation")
    document = event(
        "NEGOTIATION_STARTED",
        version=1,
        intent=intent,
        buyer=scene.ada.sub,
        node=scene.oslo.sub,
        quote=quote,
        negotiation=negotiation,
    )

    await scene.client.jetstream().publish(document["subject"], json.dumps(document).encode())
    view = (await scene.deals.show_negotiation(scene.ada, negotiation)).state
    assert (view.offer.by, view.offer.round, view.quantity) == ("buyer", 1, 1)
    await scene.deals.accept(scene.oslo, cause(), negotiation)


async def test_of_many_who_accept_at_once_one_makes_the_order(scene: Scene) -> None:
    intent, _, negotiation = await scene.begun()

    async def accept() -> str:
        try:
            await scene.deals.accept(scene.oslo, cause(), negotiation)
        except Refused as error:
            return error.problem.code.wire
        return "accepted"

    told = await asyncio.gather(*(accept() for _ in range(50)))
    assert told.count("accepted") == 1
    assert set(told) == {"accepted", "negotiation_closed"}
    assert (await scene.kinds(intent)).count("NEGOTIATION_ACCEPTED") == 1
