"""Plans in this process, as those who ask and those who publish meet them."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats.errors
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from contracts.a2a import StatusUpdate
from contracts.planrequests import (
    SUBJECTS,
    CancelPlan,
    GetPlan,
    ListPlans,
    PlanAnswer,
    PlanRequest,
    PlansAnswer,
    Refusal,
    StartPlan,
    read_answer,
)
from contracts.topology import stores, streams
from services.chassis.launch import verifier_of
from services.chassis.storemetrics import store_metrics
from services.chassis.streams import Streams
from services.chassis.telemetry import logger
from services.plans.app import build
from services.plans.ledger import Ledger, open_ledger
from services.plans.queue import A2aEventQueue, A2aSubscription
from services.plans.settings import PlansSettings
from services.plans.snapshots import PlanDirectory
from tests.harness.asgi import serving
from tests.harness.events import fresh
from tests.harness.gateway import MARKET_BYTES
from tests.harness.tokens import SECRET, bearer
from tests.harness.waiting import until

SCRIPTED = "tests.harness.agents:scripted"


@dataclass
class Asker:
    """Somebody with a token, who asks over NATS."""

    client: Client
    sub: str
    role: str = "buyer"
    # Seconds to wait for an answer.
    patience: float = 15

    async def ask(self, request: PlanRequest, **headers: str) -> PlanAnswer | PlansAnswer | Refusal:
        """The answer, whatever it is."""
        kind = PlansAnswer if isinstance(request, ListPlans) else PlanAnswer
        payload = msgspec.json.encode(request)
        told = {**bearer(self.sub, self.role), **headers}
        answer = await self.client.request(SUBJECTS[type(request)], payload, timeout=self.patience, headers=told)
        return read_answer(answer.data, kind)

    async def plan(self, request: GetPlan | StartPlan | CancelPlan) -> PlanAnswer:
        """The answer, which is a task."""
        found = await self.ask(request)
        assert isinstance(found, PlanAnswer), found
        return found

    async def list(self, **wanted: Any) -> PlansAnswer:
        """A page."""
        found = await self.ask(ListPlans(**wanted))
        assert isinstance(found, PlansAnswer), found
        return found

    async def refused(self, request: PlanRequest, **headers: str) -> str:
        """The code of the refusal that this is answered with."""
        found = await self.ask(request, **headers)
        assert isinstance(found, Refusal), found
        return found.error.code

    async def start(self, text: str, **more: Any) -> PlanAnswer:
        """Begin a plan of these words."""
        return await self.plan(StartPlan(message(text, **more)))

    async def ended(self, plan_id: str, seconds: float = 20.0) -> dict[str, Any]:
        """The task, once it is over."""

        async def found() -> dict[str, Any] | None:
            task = (await self.plan(GetPlan(plan_id))).task
            return task if state_of(task) in _TERMINAL else None

        task: dict[str, Any] = await until(found, seconds=seconds, what=f"{plan_id} is over")
        return task


_TERMINAL = {"COMPLETED", "FAILED", "CANCELED", "REJECTED"}


def message(text: str, **more: Any) -> dict[str, Any]:
    """A user's message."""
    return {"messageId": fresh("message"), "role": "ROLE_USER", "parts": [{"text": text}], **more}


def state_of(task: dict[str, Any]) -> str:
    """Its state, as `WORKING`."""
    state: str = task["status"]["state"]
    return state.removeprefix("TASK_STATE_")


def texts_of(task: dict[str, Any]) -> list[str]:
    """What was said, in order."""
    return [part["text"] for one in task.get("history", ()) for part in one["parts"]]


@contextlib.asynccontextmanager
async def planning(nats_url: str, *, on_fatal: Callable[[str], None] = print, **settings: Any) -> AsyncIterator[str]:
    """The URL of a plans service over the NATS at `nats_url`, ready; it executes scripts unless told otherwise."""
    found = PlansSettings(
        **{
            "nats_url": nats_url,
            "jwt_hs256_secret": SECRET,
            "market_max_bytes": MARKET_BYTES,
            "plan_executor": SCRIPTED,
            "plan_lease_s": 2,
            **settings,
        }
    )
    async with serving(build(found, verifier_of(found), on_fatal)) as url, httpx.AsyncClient() as http:

        async def is_ready() -> bool:
            return (await http.get(f"{url}/readyz")).status_code == 200

        await until(is_ready, what="plans is ready")
        yield url


async def process(nats_url: str, **settings: str) -> asyncio.subprocess.Process:
    """A replica as a process of its own, which executes scripts."""
    root = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "A2A_NATS_URL": nats_url,
        "A2A_JWT_HS256_SECRET": SECRET,
        "A2A_MARKET_MAX_BYTES": str(MARKET_BYTES),
        "A2A_PLAN_EXECUTOR": SCRIPTED,
        "A2A_PLAN_LEASE_S": "1",
        "A2A_LOG_LEVEL": "error",
        **settings,
    }
    command = (sys.executable, "-m", "services.plans")
    return await asyncio.create_subprocess_exec(*command, env=environment, cwd=root)


async def answering(client: Client) -> None:
    """Wait until somebody answers requests about plans."""

    async def somebody() -> bool:
        try:
            await client.request(SUBJECTS[GetPlan], b"{}", timeout=5)
        except nats.errors.NoRespondersError:
            return False
        return True

    await until(somebody, seconds=30, what="somebody answers")


@dataclass
class Site:
    """What an agent in a process of its own stands on."""

    queue: A2aEventQueue
    ledger: Ledger
    streams: Streams


@contextlib.asynccontextmanager
async def publishing_plans(nats_url: str) -> AsyncIterator[Site]:
    """A queue over the NATS at `nats_url`, with the streams made."""
    log = logger("test")
    site = Streams(
        nats_url,
        name="agent",
        specs=(*streams(market_max_bytes=MARKET_BYTES), *stores()),
        needed=("PLANS",),
        declare=True,
        monitor_url=None,
        log=log,
    )
    running = asyncio.create_task(site.run())
    try:
        await until(lambda: site.streams_failing() is None, what="the streams are there")
        ledger = open_ledger(
            site, PlanDirectory(log), store_metrics(CollectorRegistry()), source="urn:a2a:service:agent"
        )
        queue = A2aEventQueue(ledger, site)
        yield Site(queue, ledger, site)
        await queue.close()
    finally:
        running.cancel()
        await asyncio.wait([running])


async def followed(subscription: A2aSubscription) -> list[Any]:
    """Everything until the plan is over."""
    return [item async for item in subscription]


def words_of(items: list[Any]) -> list[str]:
    """What status updates said, in order."""
    said = [one.data.status.message for one in items if isinstance(one, StatusUpdate)]
    return [part.text or "" for one in said if one is not None for part in one.parts]
