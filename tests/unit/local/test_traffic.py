"""Demo traffic drives deals to their end, and sends an event again until it is stored."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
import structlog

from contracts.registry import REGISTRY
from services.chassis.auth import TokenVerifier
from services.local import traffic
from services.local.deal import STEPS
from services.local.tokens import Mint
from services.local.traffic import OPEN_DEALS, Market, Publisher, Refused

SECRET = "a secret of the tests alone, of more than 32 bytes"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EVENT = Market(random.Random(1)).next_event("k", NOON)

Answer = Callable[[httpx.Request], httpx.Response]


async def publish(answer: Answer) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://ingest") as client:
        await Publisher(client, Mint(SECRET), structlog.stdlib.get_logger()).publish(EVENT)


def test_each_deal_passes_through_all_steps_in_order() -> None:
    market = Market(random.Random(7))
    steps: dict[str, list[str]] = defaultdict(list)
    for number in range(500):
        event = market.next_event(f"k{number}", NOON)
        REGISTRY.check(event)
        steps[event["correlationid"]].append(event["type"])
    whole = [kinds for kinds in steps.values() if len(kinds) == STEPS]
    assert len(steps) - len(whole) <= OPEN_DEALS
    assert {tuple(kinds) for kinds in whole} == {
        ("INTENT_CREATED", "QUOTE_RECEIVED", "NEGOTIATION_STARTED", "ORDER_CREATED", "PAYMENT_SUCCEEDED")
    }


async def test_an_event_is_sent_with_a_service_token() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    await publish(answer)
    (request,) = seen
    token = request.headers["Authorization"].removeprefix("Bearer ")
    assert (await TokenVerifier(hs256_secret=SECRET).verify(token)).role == "service"
    assert request.headers["Content-Type"] == "application/cloudevents+json"


@pytest.mark.parametrize("first", [429, 500, 503, None], ids=str)
async def test_the_same_event_is_sent_until_it_is_stored(first: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_FIRST_DELAY_SECONDS", 0.0)
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        if len(bodies) == 3:
            return httpx.Response(200, json={})
        if first is None:
            raise httpx.ConnectError("nobody is there")
        return httpx.Response(first)

    await publish(answer)
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


async def test_a_refused_event_is_not_sent_again() -> None:
    with pytest.raises(Refused, match="status 422: no such field"):
        await publish(lambda _: httpx.Response(422, text="no such field"))


async def test_events_come_at_the_rate_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    class Enough(Exception):
        pass

    def answer(_: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        if len(times) == 5:
            raise Enough
        return httpx.Response(200, json={})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://ingest") as client:
        with pytest.raises(Enough):
            await traffic.drive(Publisher(client, Mint(SECRET), structlog.stdlib.get_logger()), rate=50)
    assert times[-1] - times[0] >= 4 / 50


def test_a_stop_that_was_asked_for_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setenv("A2A_INGEST_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("A2A_JWT_HS256_SECRET", SECRET)
    monkeypatch.setattr(traffic, "configure_logging", lambda *_: None)
    monkeypatch.setattr(traffic, "_run", cancelled)
    traffic.main()
