"""`python -m services.local.traffic`: made-up deals, dealt over HTTP as any buyer, node and payment provider would, and
a plan of a buyer's agent now and then.

An answer that does not come is no reason to go on: the same request is sent until it is answered, and its
idempotency key keeps it from happening twice.
"""

import asyncio
import json
import logging
import random
import secrets
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook
from structlog.stdlib import BoundLogger

from services.chassis.settings import load
from services.chassis.telemetry import configure_logging, logger
from services.local.deal import PROVIDER, Deal, Ending, Request, Story
from services.local.plan import MadeUpPlan
from services.local.settings import TrafficSettings
from services.local.tokens import Mint, webhook_key

BUYERS = ("buyer_ada", "buyer_ben")
NODES = ("node_oslo", "node_lima")
GOODS = (
    "200 hours of GPU time",
    "a translated manual",
    "a market study",
    "a photo of each shelf",
    "a week of crawling",
)
ENDINGS = (Ending.PAID, Ending.PAID, Ending.PAID, Ending.DECLINED, Ending.REJECTED)
OPEN_DEALS = 4
# Of what begins, how much is a plan.
PLANS_OF_ALL = 0.2
_TIMEOUT_SECONDS = 5.0
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0

Answer = Mapping[str, Any]


class Refused(Exception):
    """A service refuses a request: a bug here or there, which no repetition mends."""


class Dealer:
    """Asks the services on behalf of everybody, one request after the other."""

    def __init__(
        self, client: httpx.AsyncClient, urls: Mapping[str, str], mint: Mint, webhooks: Webhook, log: BoundLogger
    ) -> None:
        self._client = client
        self._urls = urls
        self._mint = mint
        self._webhooks = webhooks
        self._log = log

    async def ask(self, request: Request) -> Answer:
        """Send until it is answered.

        Raises:
            Refused: the service says that it never will be.
        """
        delay = _FIRST_DELAY_SECONDS
        while True:
            found = await self._send(request)
            if not isinstance(found, str):
                return found
            self._log.warning("ask_again", path=request.path, why=found, in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)

    async def _send(self, request: Request) -> Answer | str:
        """The answer, or why it is worth another try."""
        url = self._urls[request.service] + request.path
        try:
            if request.body is None:
                answer = await self._client.get(url, headers=self._token(request))
            else:
                answer = await self._post(url, request, json.dumps(request.body))
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        if answer.is_success:
            found: Answer = answer.json()
            return found
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error or _is_early(answer):
            return f"status {answer.status_code}"
        raise Refused(f"{request.path}: status {answer.status_code}: {answer.text[:500]}")

    async def _post(self, url: str, request: Request, body: str) -> httpx.Response:
        headers = self._signature(request, body) if request.role == PROVIDER else self._token(request)
        fixed = {"Content-Type": "application/json", "Idempotency-Key": request.key}
        return await self._client.post(url, content=body, headers={**fixed, **headers})

    def _token(self, request: Request) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._mint.token(request.sub, request.role)}"}

    def _signature(self, request: Request, body: str) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "webhook-id": request.key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhooks.sign(request.key, now, body),
        }


def _is_early(answer: httpx.Response) -> bool:
    """Whether something is not there yet: what one service does of another's event takes a moment."""
    return answer.status_code == httpx.codes.NOT_FOUND


class Market:
    """A few open deals, each on its way."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        # Each deal's story, with the answer that it waits for; None before its first request.
        self._open: list[tuple[Story, Answer | None]] = []

    async def step(self, dealer: Dealer, key: str) -> None:
        """Ask the next of one of the deals; `key` names the deal that begins where one is due."""
        if len(self._open) < OPEN_DEALS:
            self._open.append((self._begun(key), None))
        story, answer = self._open.pop(self._chance.randrange(len(self._open)))
        try:
            request = next(story) if answer is None else story.send(answer)
        except StopIteration:
            return
        self._open.append((story, await dealer.ask(request)))

    def _begun(self, key: str) -> Story:
        if self._chance.random() >= PLANS_OF_ALL:
            return self._deal(key).story()
        euros = self._chance.randrange(50, 2000)
        pick = self._chance.choice
        return MadeUpPlan(key, pick(BUYERS), pick(GOODS), euros, says_price=self._chance.random() < 2 / 3).story()

    def _deal(self, key: str) -> Deal:
        asked = self._chance.randrange(50, 2000)
        agreed = asked * self._chance.randrange(80, 100) // 100
        pick = self._chance.choice
        return Deal(key, pick(BUYERS), pick(NODES), pick(GOODS), asked, agreed, pick(ENDINGS))


async def drive(dealer: Dealer, rate: float) -> None:
    """Ask `rate` times a second until cancelled."""
    market = Market(random.Random())  # noqa: S311  # made-up prices
    while True:
        await market.step(dealer, secrets.token_hex(6))
        await asyncio.sleep(1 / rate)


async def _run(settings: TrafficSettings) -> None:
    driving = asyncio.current_task()
    if driving is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driving.cancel)
    mint = Mint(settings.jwt_hs256_secret, settings.jwt_issuer, settings.jwt_audience)
    urls = {"deals": settings.deals_url, "payments": settings.payments_url, "gateway": settings.gateway_url}
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
        dealer = Dealer(client, urls, mint, Webhook(webhook_key(settings.payment_webhook_secret)), logger(__name__))
        await drive(dealer, settings.traffic_rate)


def main() -> None:
    """Run until SIGTERM."""
    settings = load(TrafficSettings)
    configure_logging("traffic", "info")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell of every event
    try:
        asyncio.run(_run(settings))
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    main()
