"""Services are killed at every step of deals that go on: each deal ends once, nothing is lost, money adds up."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest

from services.chassis.deadletters import letters
from services.local.embedded import EmbeddedNats
from tests.harness.dealing import WEBHOOK_SECRET, Ask, Desk
from tests.harness.marketplace import Marketplace
from tests.harness.publisher import Process
from tests.harness.streams import all_of
from tests.harness.waiting import until

pytestmark = pytest.mark.chaos

SERVICES = ("deals", "orders", "payments")
# The commands of a deal, and the moments after two of them, when only reactions are at work.
STEPS = ("intent", "quote", "start", "offer", "accept", "accepted", "result", "settled")
DEALS = 50
AT_ONCE = 6
FINAL = {"ORDER_CONFIRMED", "ORDER_CANCELLED"}


class Fleet:
    """The three services as processes, killed while they work and started again at the same addresses."""

    def __init__(self, nats_url: str) -> None:
        self.processes = {
            name: Process(name, nats_url, A2A_PAYMENT_WEBHOOK_SECRET=WEBHOOK_SECRET, A2A_LOG_LEVEL="error")
            for name in SERVICES
        }
        self.desk = Desk({name: process.url for name, process in self.processes.items()})
        self.kills: Counter[str] = Counter()
        self._locks = {name: asyncio.Lock() for name in SERVICES}
        self._http = httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_keepalive_connections=0))

    async def start(self) -> None:
        """All of them, ready."""
        for process in self.processes.values():
            await process.start()
        for name in SERVICES:
            await self._ready(name)

    async def kill(self, name: str, after: float) -> None:
        """End one as a crash would, and start it again."""
        async with self._locks[name]:
            await asyncio.sleep(after)
            await self.processes[name].kill()
            self.kills[name] += 1
            await self.processes[name].start()
            await self._ready(name)

    async def _ready(self, name: str) -> None:
        async def is_ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await self._http.get(f"{self.desk.urls[name]}/readyz")).status_code == 200
            return False

        await until(is_ready, seconds=30, what=f"{name} is ready")

    async def ask(self, ask: Ask, *, early: bool = False) -> httpx.Response:
        """Send until it is answered, as a client does; `early`: what is asked for may not be there yet."""
        for _ in range(400):
            with contextlib.suppress(httpx.TransportError):
                answer = await ask.by(self._http)
                if answer.status_code < 500 and not (early and answer.status_code == 404):
                    return answer
            await asyncio.sleep(0.05)
        raise AssertionError(f"{ask.url} is never answered")

    async def close(self) -> None:
        """End all."""
        await self._http.aclose()
        for process in self.processes.values():
            await process.close()


@dataclass
class Deal:
    """One deal, from its intent to its order's end."""

    fleet: Fleet
    number: int
    # What is killed at which of its steps.
    kill_at: str = ""
    kill: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    killing: "asyncio.Task[None] | None" = None

    async def run(self) -> None:
        """Every step; a kill happens while its step's request is on its way."""
        desk, buyer, node, key = self.fleet.desk, f"buyer_{self.number}", f"node_{self.number}", f"k{self.number}"
        await self.command("intent", desk.intent(buyer, key=f"{key}-1"))
        await self.command("quote", desk.quote(node, self.ids["intent"], key=f"{key}-2"))
        await self.command("start", desk.start(buyer, self.ids["intent"], self.ids["quote"], key=f"{key}-3"))
        amount = f"{100 + self.number}.50"
        await self.command("offer", desk.offer("node", node, self.ids["start"], amount=amount, key=f"{key}-4"))
        await self.command("accept", desk.accept("buyer", buyer, self.ids["start"], key=f"{key}-5"))
        self.step("accepted")
        looked = await self.fleet.ask(desk.query("deals", f"/v1/negotiations/{self.ids['start']}", "buyer", buyer))
        self.ids["order"] = looked.json()["state"]["order_id"]
        self.step("result")
        await self.end(buyer)
        self.step("settled")
        if self.killing is not None:
            await self.killing

    async def end(self, buyer: str) -> None:
        """Paid; every fifth is declined, and of every fifth buyer and provider act at once."""
        desk, order, reference = self.fleet.desk, self.ids["order"], f"psp-{self.number}"
        status = "failed" if self.number % 5 == 3 else "succeeded"
        told = desk.result(order, status, reference=reference, webhook_id=f"w{self.number}")
        asked = [self.fleet.ask(told, early=True)]
        if self.number % 5 == 4:
            asked.append(self.fleet.ask(desk.cancel_order("buyer", buyer, order, key="cancel"), early=True))
        answers = await asyncio.gather(*asked)
        codes = [answer.json().get("code", "done") for answer in answers]
        assert "done" in codes, codes
        assert set(codes) <= {"done", "payment_closed", "order_paid", "order_closed"}, codes

    async def command(self, step: str, ask: Ask) -> None:
        self.step(step)
        answer = await self.fleet.ask(ask)
        assert answer.status_code == 201, f"{step}: {answer.text}"
        self.ids[step] = answer.json()["id"]

    def step(self, name: str) -> None:
        """The moment at which this deal's kill happens, if it is this one."""
        if name == self.kill_at:
            after = random.Random(self.number).uniform(0, 0.012)
            self.killing = asyncio.create_task(self.fleet.kill(self.kill, after))


@pytest.fixture
async def fleet(nats: EmbeddedNats, market: Marketplace) -> AsyncIterator[Fleet]:
    found = Fleet(nats.url)
    try:
        await found.start()
        yield found
    finally:
        await found.close()


@pytest.mark.timeout(180)
async def test_each_service_killed_at_each_step_of_fifty_deals(fleet: Fleet, market: Marketplace) -> None:
    deals = [Deal(fleet, number) for number in range(DEALS)]
    plan = list(itertools.product(STEPS, SERVICES))
    for deal, (step, service) in zip(random.Random(4).sample(deals, len(plan)), plan, strict=True):
        deal.kill_at, deal.kill = step, service
    room = asyncio.Semaphore(AT_ONCE)

    async def run(deal: Deal) -> None:
        async with room:
            await deal.run()

    await asyncio.gather(*map(run, deals))
    assert fleet.kills == {name: len(STEPS) for name in SERVICES}

    async def events() -> list[dict[str, Any]]:
        return [one.document for one in await all_of(market.client, "market.>")]

    async def all_ended() -> bool:
        return sum(one["type"] in FINAL for one in await events()) >= DEALS

    await until(all_ended, seconds=30, what="every deal has ended")
    stored = await events()
    assert len({one["id"] for one in stored}) == len(stored), "an event is stored twice"
    for deal in deals:
        judge(deal, [one["type"] for one in stored if one["correlationid"] == deal.ids["intent"]])
    paid, confirmed = money(stored, "PAYMENT_SUCCEEDED", "amount"), money(stored, "ORDER_CREATED", "total")
    orders = {one["data"]["order_id"] for one in stored if one["type"] == "ORDER_CONFIRMED"}
    assert paid == {order: total for order, total in confirmed.items() if order in orders}
    assert sum(paid.values()) > 0
    for name in SERVICES:
        assert [letter.reason async for letter in letters(market.client, name)] == []


def judge(deal: Deal, kinds: list[str]) -> None:
    """Each deal has every event that it must have, once."""
    agreed = ["INTENT_CREATED", "QUOTE_RECEIVED", "NEGOTIATION_STARTED", "NEGOTIATION_OFFER_MADE"]
    assert kinds[:6] == [*agreed, "NEGOTIATION_ACCEPTED", "ORDER_CREATED"], kinds
    assert len(set(kinds)) == len(kinds), kinds
    ends = set(kinds[6:])
    paid, unpaid = {"PAYMENT_SUCCEEDED", "ORDER_CONFIRMED"}, {"PAYMENT_FAILED", "ORDER_CANCELLED"}
    wanted = {3: [unpaid], 4: [paid, unpaid]}.get(deal.number % 5, [paid])
    # What was cancelled before its payment was asked for is never asked for.
    assert ends - {"PAYMENT_REQUESTED"} in wanted, kinds


def money(stored: list[dict[str, Any]], kind: str, name: str) -> dict[str, Decimal]:
    """Order -> amount, of all events of a kind."""
    found = [one["data"] for one in stored if one["type"] == kind]
    return {data["order_id"]: Decimal(data[name]["amount"]) for data in found}
