"""Deals over HTTP: what is answered, what is refused and how that is told, and that nothing happens twice."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.harness.dealing import Ask, euros
from tests.harness.events import fresh
from tests.harness.publishers import Publishers, publishing
from tests.harness.streams import all_of, looking_at
from tests.harness.waiting import until

COMMANDS = [
    "/v1/intents",
    "/v1/intents/{id}/cancel",
    "/v1/intents/{id}/quotes",
    "/v1/quotes/{id}/withdraw",
    "/v1/intents/{id}/negotiations",
    "/v1/negotiations/{id}/offers",
    "/v1/negotiations/{id}/accept",
    "/v1/negotiations/{id}/reject",
]


@pytest.fixture
async def market(nats_server: str) -> AsyncIterator[Publishers]:
    async with publishing(nats_server, "deals") as found:
        yield found


class People:
    """A buyer and a node, and how far they got."""

    def __init__(self, market: Publishers) -> None:
        self.market = market
        self.ada, self.oslo = fresh("buyer"), fresh("node")

    async def begin(self) -> tuple[str, str, str]:
        """An intent, a quote and a negotiation that the buyer has opened."""
        desk, ask = self.market.desk, self.market.ask
        intent = (await ask(desk.intent(self.ada)))["id"]
        quote = (await ask(desk.quote(self.oslo, intent)))["id"]
        return intent, quote, (await ask(desk.start(self.ada, intent, quote)))["id"]


@pytest.fixture
def people(market: Publishers) -> People:
    return People(market)


async def test_a_command_answers_201_with_id_and_cursor_and_a_query_200_with_state_and_cursor(
    market: Publishers, people: People
) -> None:
    made = await market.ask(market.desk.intent(people.ada, title="a study", budget=euros("10.00")))
    assert set(made) == {"id", "cursor"}
    shown = await market.ask(market.desk.query("deals", f"/v1/intents/{made['id']}", "buyer", people.ada))
    assert set(shown) == {"state", "cursor"}
    assert shown["state"] == {
        "intent_id": made["id"],
        "buyer_id": people.ada,
        "title": "a study",
        "quantity": 1,
        "budget": {"amount": "10.00", "currency": "EUR"},
        "expires_at": None,
        "status": "open",
        "quotes": [],
        "negotiations": [],
    }
    stream, epoch, sequence = shown["cursor"].split(".")
    assert [stream, epoch] == made["cursor"].split(".")[:2]
    assert int(sequence) >= int(made["cursor"].split(".")[2])


async def test_the_same_key_answers_the_same_over_a_restart_of_the_service(nats_server: str) -> None:
    key, answers = uuid.uuid4().hex, []
    ada = fresh("buyer")
    for _ in range(2):
        async with publishing(nats_server, "deals") as market:
            answers += [await market.ask(market.desk.intent(ada, key=key)) for _ in range(2)]
    assert all(answer == answers[0] for answer in answers)
    async with looking_at(nats_server) as client:
        assert len(await all_of(client, f"market.*.{ada}.>")) == 1


async def test_the_same_key_with_another_body_is_422(market: Publishers, people: People) -> None:
    key = uuid.uuid4().hex
    await market.ask(market.desk.intent(people.ada, key=key, title="one"))
    refused = await market.ask(market.desk.intent(people.ada, key=key, title="another"), 422)
    assert refused["code"] == "idempotency_key_reused"


async def test_the_same_key_of_somebody_else_is_another_command(market: Publishers, people: People) -> None:
    key = uuid.uuid4().hex
    one = await market.ask(market.desk.intent(people.ada, key=key))
    other = await market.ask(market.desk.intent(fresh("buyer"), key=key))
    assert one["id"] != other["id"]


async def test_the_same_key_on_the_quotes_of_two_nodes_makes_two_negotiations(
    market: Publishers, people: People
) -> None:
    intent, quote, _ = await people.begin()
    other = (await market.ask(market.desk.quote(fresh("node"), intent)))["id"]
    starts = [market.desk.start(people.ada, intent, one, key="same") for one in (quote, other)]
    made = [(await market.ask(start))["id"] for start in starts]
    for negotiation, about in zip(made, (quote, other), strict=True):
        shown = await market.ask(market.desk.query("deals", f"/v1/negotiations/{negotiation}", "buyer", people.ada))
        assert shown["state"]["quote_id"] == about
    assert made[0] != made[1]


async def test_a_buyer_and_a_node_of_the_same_id_have_keys_of_their_own(market: Publishers, people: People) -> None:
    people.oslo = people.ada
    _, _, negotiation = await people.begin()
    offers = [market.desk.offer(role, people.ada, negotiation, key="same") for role in ("node", "buyer")]
    one, other = [await market.ask(offer) for offer in offers]
    assert one["cursor"] != other["cursor"]


async def test_a_repeated_acceptance_answers_the_same_though_the_negotiation_has_ended(
    market: Publishers, people: People
) -> None:
    _, _, negotiation = await people.begin()
    accept = market.desk.accept("node", people.oslo, negotiation)
    assert await market.ask(accept) == await market.ask(accept)
    again = await market.ask(market.desk.accept("node", people.oslo, negotiation), 409)
    assert (again["code"], again["retryable"]) == ("negotiation_closed", False)


@pytest.mark.parametrize("key", [None, "", "x" * 129, "tab\there"])
async def test_a_command_without_a_usable_key_is_400(market: Publishers, people: People, key: str | None) -> None:
    ask = market.desk.intent(people.ada)
    headers = {name: value for name, value in ask.headers.items() if name != "Idempotency-Key"}
    if key is not None:
        headers["Idempotency-Key"] = key
    refused = await market.ask(replace(ask, headers=headers), 400)
    assert refused["code"] == "invalid_idempotency_key"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/title"]),
        ({"title": "t", "quantity": 0}, ["/quantity"]),
        ({"title": "t", "quantity": 10**30}, ["/quantity"]),
        ({"title": "t", "budget": {"amount": "1,50", "currency": "EUR"}}, ["/budget/amount"]),
        ({"title": "t", "budget": {"amount": 1.5, "currency": "XXX"}}, ["/budget/amount", "/budget/currency"]),
        ({"title": "t", "expires_at": 5}, ["/expires_at"]),
        ({"title": "t", "colour": "red"}, ["/colour"]),
        ([], [""]),
    ],
    ids=str,
)
async def test_a_body_that_does_not_fit_is_422_and_names_each_field(
    market: Publishers, people: People, body: Any, pointers: list[str]
) -> None:
    refused = await market.ask(market.desk.command("deals", "/v1/intents", "buyer", people.ada, body), 422)
    assert refused["code"] == "invalid_command"
    assert [error["pointer"] for error in refused["errors"]] == pointers


async def test_what_has_expired_before_it_begins_is_422(market: Publishers, people: People) -> None:
    refused = await market.ask(market.desk.intent(people.ada, expires_at="2020-01-01T00:00:00Z"), 422)
    assert refused["code"] == "expiry_in_past"


async def test_another_currency_than_the_quotes_is_422(market: Publishers, people: People) -> None:
    intent, quote, _ = await people.begin()
    dollars = {"amount": "1.00", "currency": "USD"}
    refused = await market.ask(market.desk.start(people.ada, intent, quote, price=dollars), 422)
    assert refused["code"] == "currency_mismatch"


async def test_a_stranger_gets_byte_for_byte_what_an_unknown_id_gets(market: Publishers, people: People) -> None:
    intent, quote, negotiation = await people.begin()
    eve, lima, desk = fresh("eve"), fresh("lima"), market.desk
    for one, other in (
        (desk.query("deals", f"/v1/intents/{intent}", "buyer", eve), f"/v1/intents/{uuid.uuid4()}"),
        (desk.cancel_intent(eve, intent), f"/v1/intents/{uuid.uuid4()}/cancel"),
        (desk.cancel_intent(people.ada, intent, role="node"), f"/v1/intents/{uuid.uuid4()}/cancel"),
        (desk.withdraw(lima, quote), f"/v1/quotes/{uuid.uuid4()}/withdraw"),
        (desk.query("deals", f"/v1/negotiations/{negotiation}", "node", lima), f"/v1/negotiations/{uuid.uuid4()}"),
        (desk.accept("node", lima, negotiation), f"/v1/negotiations/{uuid.uuid4()}/accept"),
        (desk.offer("buyer", eve, negotiation), f"/v1/negotiations/{uuid.uuid4()}/offers"),
        (desk.reject("node", lima, negotiation), f"/v1/negotiations/{uuid.uuid4()}/reject"),
    ):
        mine = await one.by(market.http)
        unknown = await replace(one, url=desk.urls["deals"] + other).by(market.http)
        assert (mine.status_code, mine.content) == (unknown.status_code, unknown.content)
        assert mine.status_code == 404


@pytest.mark.parametrize("path", ["/v1/intents/a.b", "/v1/intents/*", "/v1/negotiations/%3E", "/v1/negotiations/-"])
async def test_what_is_no_id_is_404(market: Publishers, people: People, path: str) -> None:
    assert (await market.ask(market.desk.query("deals", path, "admin", "root"), 404))["code"] == "not_found"


async def test_without_a_token_nothing_is_told(market: Publishers, people: People) -> None:
    intent, _, _ = await people.begin()
    url = f"{market.desk.urls['deals']}/v1/intents/{intent}"
    assert (await market.ask(Ask("GET", url, {}), 401))["code"] == "unauthenticated"
    assert (await market.ask(Ask("POST", f"{url}/cancel", {"Idempotency-Key": "k"}), 401))["code"] == "unauthenticated"


async def test_200_concurrent_acceptances_are_one(market: Publishers, people: People, nats_server: str) -> None:
    intent, _, negotiation = await people.begin()
    accepts = [market.desk.accept("node", people.oslo, negotiation) for _ in range(200)]
    answers = await asyncio.gather(*(accept.by(market.http) for accept in accepts))
    told = [(one.status_code, one.json().get("code")) for one in answers]
    assert told.count((201, None)) == 1
    assert set(told) == {(201, None), (409, "negotiation_closed")}
    async with looking_at(nats_server) as client:
        kinds = [one.document["type"] for one in await all_of(client, f"market.{intent}.>")]
    assert kinds.count("NEGOTIATION_ACCEPTED") == 1


async def test_sides_that_outbid_each_other_at_once_take_turns(market: Publishers, people: People) -> None:
    _, _, negotiation = await people.begin()
    sides = (("node", people.oslo), ("buyer", people.ada))
    offers = [market.desk.offer(role, sub, negotiation) for role, sub in sides for _ in range(10)]
    answers = await asyncio.gather(*(offer.by(market.http) for offer in offers))
    assert {one.status_code for one in answers} <= {201, 409}
    shown = await market.ask(market.desk.query("deals", f"/v1/negotiations/{negotiation}", "admin", "root"))
    assert shown["state"]["offer"]["round"] == 1 + sum(one.status_code == 201 for one in answers)


async def test_a_bad_traceparent_is_dropped_and_a_good_one_goes_into_the_event(
    market: Publishers, people: People, nats_server: str
) -> None:
    good = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
    for given, wanted in ((good, good), ("nonsense", None)):
        ask = market.desk.intent(people.ada)
        made = await market.ask(replace(ask, headers={**ask.headers, "traceparent": given}))
        async with looking_at(nats_server) as client:
            (stored,) = await all_of(client, f"market.{made['id']}.>")
        assert stored.document.get("traceparent") == wanted


async def test_openapi_names_every_operation_and_its_examples_work(market: Publishers, people: People) -> None:
    document = (await market.http.get(f"{market.desk.urls['deals']}/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    posts = [path for path, methods in document["paths"].items() if "post" in methods]
    assert sorted(posts) == sorted(COMMANDS)
    bodies = {
        path: document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"] for path in posts
    }
    command, ask = market.desk.command, market.ask
    intent = (await ask(command("deals", "/v1/intents", "buyer", people.ada, bodies["/v1/intents"])))["id"]
    at = f"/v1/intents/{intent}"
    quote = (await ask(command("deals", f"{at}/quotes", "node", people.oslo, bodies["/v1/intents/{id}/quotes"])))["id"]
    opening = {**bodies["/v1/intents/{id}/negotiations"], "quote_id": quote}
    negotiation = (await ask(command("deals", f"{at}/negotiations", "buyer", people.ada, opening)))["id"]
    talk = f"/v1/negotiations/{negotiation}"
    for path, role, sub in (
        (f"{talk}/offers", "node", people.oslo),
        (f"{talk}/accept", "buyer", people.ada),
        (f"/v1/quotes/{quote}/withdraw", "node", people.oslo),
        (f"{at}/cancel", "buyer", people.ada),
    ):
        template = path.replace(intent, "{id}").replace(negotiation, "{id}").replace(quote, "{id}")
        await ask(command("deals", path, role, sub, bodies[template]))
    other = (await ask(market.desk.intent(people.ada)))["id"]
    other_quote = (await ask(market.desk.quote(people.oslo, other)))["id"]
    begun = (await ask(market.desk.start(people.ada, other, other_quote)))["id"]
    reject = bodies["/v1/negotiations/{id}/reject"]
    await ask(command("deals", f"/v1/negotiations/{begun}/reject", "node", people.oslo, reject))


async def test_a_timer_makes_an_expired_negotiation_visible(
    market: Publishers, people: People, nats_server: str
) -> None:

    intent = (await market.ask(market.desk.intent(people.ada)))["id"]
    quote = (await market.ask(market.desk.quote(people.oslo, intent)))["id"]
    soon = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    negotiation = (await market.ask(market.desk.start(people.ada, intent, quote, expires_at=soon)))["id"]

    async def ended() -> Any:
        shown = await market.ask(market.desk.query("deals", f"/v1/negotiations/{negotiation}", "node", people.oslo))
        return shown["state"] if shown["state"]["status"] == "rejected" else None

    state = await until(ended, what="the negotiation is rejected")
    assert (state["rejected_by"], state["reason"]) == ("system", "expired")


@pytest.mark.parametrize("what", ["intent_cancelled", "quote_withdrawn"])
async def test_taking_back_ends_what_is_negotiated(market: Publishers, people: People, what: str) -> None:

    intent, quote, negotiation = await people.begin()
    if what == "intent_cancelled":
        await market.ask(market.desk.cancel_intent(people.ada, intent))
    else:
        await market.ask(market.desk.withdraw(people.oslo, quote))

    async def ended() -> Any:
        shown = await market.ask(market.desk.query("deals", f"/v1/negotiations/{negotiation}", "node", people.oslo))
        return shown["state"] if shown["state"]["status"] == "rejected" else None

    state = await until(ended, what="the negotiation is rejected")
    assert (state["rejected_by"], state["reason"]) == ("system", what)
    refused = await market.ask(market.desk.accept("node", people.oslo, negotiation), 409)
    assert refused["code"] == "negotiation_closed"
