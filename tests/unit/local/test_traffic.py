"""Demo traffic drives deals to their end, and sends a request again until it is answered."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog
from standardwebhooks.webhooks import Webhook

from contracts.principal import BUYER, NODE
from services.chassis.auth import TokenVerifier
from services.local import traffic
from services.local.deal import PROVIDER, Request
from services.local.tokens import Mint, new_webhook_secret, webhook_key
from services.local.traffic import OPEN_DEALS, Dealer, Market, Refused

SECRET = "a secret of the tests alone, of more than 32 bytes"
WEBHOOKS = Webhook(webhook_key(new_webhook_secret()))
URLS = {"deals": "http://deals", "payments": "http://payments", "gateway": "http://gateway"}
ASKED = Request("deals", "/v1/intents", BUYER, "buyer_ada", "k-1", {"title": "ü"})

Answer = Callable[[httpx.Request], httpx.Response]


async def ask(answer: Answer, request: Request = ASKED) -> Any:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await Dealer(client, URLS, Mint(SECRET), WEBHOOKS, structlog.stdlib.get_logger()).ask(request)


def seen_by(request: Request) -> tuple[list[httpx.Request], Answer]:
    seen: list[httpx.Request] = []

    def answer(given: httpx.Request) -> httpx.Response:
        seen.append(given)
        return httpx.Response(201, json={"id": "i1", "cursor": "c"})

    return seen, answer


async def test_a_command_bears_the_token_of_who_asks_and_the_key() -> None:
    seen, answer = seen_by(ASKED)
    assert await ask(answer) == {"id": "i1", "cursor": "c"}
    (request,) = seen
    principal = await TokenVerifier(hs256_secret=SECRET).verify(
        request.headers["Authorization"].removeprefix("Bearer ")
    )
    assert (principal.sub, principal.role) == ("buyer_ada", "buyer")
    assert (request.method, str(request.url)) == ("POST", "http://deals/v1/intents")
    assert request.headers["Idempotency-Key"] == "k-1"


async def test_a_query_is_a_get() -> None:
    seen, answer = seen_by(ASKED)
    await ask(answer, Request("deals", "/v1/negotiations/n1", NODE, "node_oslo", "k-2", None))
    assert seen[0].method == "GET"


async def test_the_provider_bears_no_token_and_signs() -> None:
    seen, answer = seen_by(ASKED)
    await ask(answer, Request("payments", "/v1/payments/o1/result", PROVIDER, PROVIDER, "k-3", {"status": "failed"}))
    (request,) = seen
    assert "Authorization" not in request.headers
    WEBHOOKS.verify(request.content, dict(request.headers))


@pytest.mark.parametrize("first", [404, 429, 500, 503, None], ids=str)
async def test_the_same_request_is_sent_until_it_is_answered(
    first: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "_FIRST_DELAY_SECONDS", 0.0)
    bodies: list[tuple[str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append((request.headers["Idempotency-Key"], request.content))
        if len(bodies) == 3:
            return httpx.Response(201, json={})
        if first is None:
            raise httpx.ConnectError("nobody is there")
        return httpx.Response(first)

    await ask(answer)
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


async def test_a_refused_request_is_not_sent_again() -> None:
    with pytest.raises(Refused, match="/v1/intents: status 422: no such field"):
        await ask(lambda _: httpx.Response(422, text="no such field"))


class Everybody:
    """Answers whatever is asked, and counts the requests of each deal."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.plans: Counter[str] = Counter()

    async def ask(self, request: Request) -> Any:
        task = {"id": "p", "status": {"state": "TASK_STATE_INPUT_REQUIRED"}}
        (self.plans if request.service == "gateway" else self.asked)[request.key.partition("-")[0]] += 1
        return {"id": "i", "state": {"order_id": "o"}, "task": task, **task}


async def test_a_few_deals_are_open_and_each_comes_to_its_end() -> None:
    market, everybody = Market(random.Random(7)), Everybody()
    for number in range(500):
        await market.step(everybody, f"k{number}")  # type: ignore[arg-type]  # all that it is asked is to ask
    unfinished = [key for key, asked in everybody.asked.items() if asked < 5]
    assert len(unfinished) <= OPEN_DEALS
    assert set(everybody.asked.values()) >= {5, 7}
    assert set(everybody.plans.values()) >= {1, 3}


async def test_requests_come_at_the_rate_asked_for() -> None:
    times: list[float] = []

    class Enough(Exception):
        pass

    def answer(_: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        if len(times) == 5:
            raise Enough
        task = {"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}}  # whatever is asked first: of deals, of plans
        return httpx.Response(201, json={"id": "i", "state": {"order_id": "o"}, "task": task})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        dealer = Dealer(client, URLS, Mint(SECRET), WEBHOOKS, structlog.stdlib.get_logger())
        with pytest.raises(Enough):
            await traffic.drive(dealer, rate=50)
    assert times[-1] - times[0] >= 4 / 50


def test_a_stop_that_was_asked_for_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setenv("A2A_DEALS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("A2A_PAYMENTS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("A2A_GATEWAY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("A2A_PAYMENT_WEBHOOK_SECRET", "whsec_AAAA")
    monkeypatch.setenv("A2A_JWT_HS256_SECRET", SECRET)
    monkeypatch.setattr(traffic, "configure_logging", lambda *_: None)
    monkeypatch.setattr(traffic, "_run", cancelled)
    traffic.main()
