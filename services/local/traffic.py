"""`python -m services.local.traffic`: made-up deals, published over HTTP as any publisher would.

An answer that does not come is no reason to go on: the same event is sent until it is stored, and its
id keeps it from being stored twice.
"""

import asyncio
import logging
import random
import secrets
import signal
from datetime import UTC, datetime
from typing import Any

import httpx
from structlog.stdlib import BoundLogger

from contracts.envelope import CONTENT_TYPE
from contracts.principal import SERVICE
from services.chassis.settings import load
from services.chassis.telemetry import configure_logging, logger
from services.local.deal import STEPS, Deal
from services.local.settings import TrafficSettings
from services.local.tokens import HOLDERS, Mint

BUYERS = ("buyer_ada", "buyer_ben")
NODES = ("node_oslo", "node_lima")
GOODS = (
    "200 hours of GPU time",
    "a translated manual",
    "a market study",
    "a photo of each shelf",
    "a week of crawling",
)
OPEN_DEALS = 4
_TIMEOUT_SECONDS = 5.0
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0


class Refused(Exception):
    """Ingest refuses an event: a bug here or there, which no repetition mends."""


class Publisher:
    """Stores events through ingest, one after the other."""

    def __init__(self, client: httpx.AsyncClient, mint: Mint, log: BoundLogger) -> None:
        self._client = client
        self._mint = mint
        self._log = log

    async def publish(self, event: dict[str, Any]) -> None:
        """Send until it is stored.

        Raises:
            Refused: ingest says that it never will be.
        """
        delay = _FIRST_DELAY_SECONDS
        while (why := await self._send(event)) is not None:
            self._log.warning("publish_again", event_id=event["id"], why=why, in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)

    async def _send(self, event: dict[str, Any]) -> str | None:
        """None where it is stored, else why it is worth another try."""
        token = self._mint.token(HOLDERS[SERVICE], SERVICE)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPE}
        try:
            answer = await self._client.post("/v1/events", json=event, headers=headers)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        if answer.is_success:
            return None
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            return f"status {answer.status_code}"
        raise Refused(f"status {answer.status_code}: {answer.text[:500]}")


class Market:
    """A few open deals, each a number of steps on its way."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._open: list[tuple[Deal, int]] = []

    def next_event(self, key: str, at: datetime) -> dict[str, Any]:
        """The next step of one of the deals; `key` names the deal that begins where one is due."""
        if len(self._open) < OPEN_DEALS:
            self._open.append((self._deal(key), 0))
        deal, step = self._open.pop(self._chance.randrange(len(self._open)))
        if step + 1 < STEPS:
            self._open.append((deal, step + 1))
        return deal.event(step, at)

    def _deal(self, key: str) -> Deal:
        asked = self._chance.randrange(50, 2000)
        agreed = asked * self._chance.randrange(80, 100) // 100
        pick = self._chance.choice
        return Deal(key, pick(BUYERS), pick(NODES), pick(GOODS), asked, agreed)


async def drive(publisher: Publisher, rate: float) -> None:
    """Publish `rate` events a second until cancelled."""
    market = Market(random.Random())  # noqa: S311  # made-up prices
    while True:
        await publisher.publish(market.next_event(secrets.token_hex(6), datetime.now(UTC)))
        await asyncio.sleep(1 / rate)


async def _run(settings: TrafficSettings) -> None:
    driving = asyncio.current_task()
    if driving is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driving.cancel)
    mint = Mint(settings.jwt_hs256_secret, settings.jwt_issuer, settings.jwt_audience)
    async with httpx.AsyncClient(base_url=settings.ingest_url, timeout=_TIMEOUT_SECONDS) as client:
        await drive(Publisher(client, mint, logger(__name__)), settings.traffic_rate)


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
