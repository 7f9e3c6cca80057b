"""Plans for tests: publishes their events as an executor does, and answers `svc.plans.*` from what it published.

In the place of services/plans where a test has to decide what happens when; tests of the whole system use the
service itself. As strict as the service: who has seen an event anywhere is never answered without it, and of two
requests for one plan the second is decided after what came of the first.
"""

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec
from nats.aio.msg import Msg

from contracts.planrequests import QUEUE, CancelPlan, GetPlan, ListPlans, StartPlan
from tests.harness.events import fresh
from tests.harness.marketplace import Marketplace, marketplace
from tests.harness.tokens import SECRET

TERMINAL = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")
_REQUESTS = {"get": GetPlan, "list": ListPlans, "start": StartPlan, "cancel": CancelPlan}
Document = dict[str, Any]


def status(plan: str, owner: str, state: str, text: str | None = None, role: str = "AGENT") -> Document:
    """PLAN_STATUS_UPDATED; `state` as `WORKING`."""
    said = {"messageId": fresh("m"), "role": f"ROLE_{role}", "parts": [{"text": text}]}
    found = {"state": f"TASK_STATE_{state}", "timestamp": _now(), **({"message": said} if text is not None else {})}
    return _event("PLAN_STATUS_UPDATED", plan, owner, {"status": found}, final=state in TERMINAL)


def artifact(plan: str, owner: str, text: str, *, name: str = "log", append: bool = True) -> Document:
    """PLAN_ARTIFACT_UPDATED: one more part."""
    data = {"artifact": {"artifactId": name, "parts": [{"text": text}]}, "append": append}
    return _event("PLAN_ARTIFACT_UPDATED", plan, owner, data)


def problem(plan: str, owner: str, code: str, message: str, *, retryable: bool = True) -> Document:
    """PLAN_ERROR."""
    return _event("PLAN_ERROR", plan, owner, {"code": code, "message": message, "retryable": retryable})


def _event(kind: str, plan: str, owner: str, data: Document, *, final: bool = False) -> Document:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "urn:a2a:service:tests",
        "type": kind,
        "time": _now(),
        "subject": f"plan.{owner}.{plan}",
        "dataschema": f"urn:a2a:contract:{kind}:1",
        "datacontenttype": "application/json",
        "schemaversion": 1,
        **({"final": True} if final else {}),
        "data": {"taskId": plan, "contextId": f"context_{plan}", **data},
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Planner:
    """Everything about plans that the gateway does not do."""

    def __init__(self, market: Marketplace, prefix: str) -> None:
        """`prefix`: the cursors' text before the sequence."""
        self.market = market
        self._prefix = prefix
        # Plan -> its owner, and its events with their sequences.
        self.owners: dict[str, str] = {}
        self.stored: dict[str, list[tuple[int, Document]]] = defaultdict(list)
        # Said instead of an answer to the next requests, by operation.
        self.refusals: dict[str, Document] = {}
        # Told with the answer to the next `get` as of a cursor.
        self.gap: Document | None = None
        # The traces that requests were part of.
        self.traces: list[str | None] = []
        # By plan. Held from before an event is stored until it is noted here: others see it in between, and may ask.
        self._storing: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # By plan. Held while a request decides, and publishes what it decided.
        self._deciding: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def publish(self, *documents: Document) -> list[str]:
        """Store events in order; their cursors."""
        found = []
        for document in documents:
            _, owner, plan = document["subject"].split(".")
            async with self._storing[plan]:
                sequence = await self.market.publish(document)
                self.owners[plan] = owner
                self.stored[plan].append((sequence, document))
            found.append(f"{self._prefix}{sequence}")
        return found

    async def begin(self, owner: str, text: str = "please", plan: str | None = None) -> str:
        """A plan that has just been submitted; its id."""
        plan = plan or fresh("plan")
        await self.publish(status(plan, owner, "SUBMITTED", text, role="USER"))
        return plan

    async def answer(self, message: Msg) -> None:
        """One request."""
        op = message.subject.rpartition(".")[2]
        headers = message.headers or {}
        self.traces.append(headers.get("traceparent"))
        claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), SECRET, ["HS256"])
        found: Document
        if op in self.refusals:
            found = {"error": self.refusals[op]}
        else:
            request: Any = msgspec.json.decode(message.data, type=_REQUESTS[op])
            found = await getattr(self, f"_{op}")(request, claims)
        await message.respond(msgspec.json.encode(found))

    async def _get(self, request: GetPlan, claims: Document) -> Document:
        upto = None if request.cursor is None else int(request.cursor.rpartition(".")[2])
        found = await self._task(request.id, claims, upto)
        if request.cursor is not None and self.gap is not None:
            found["gap"] = self.gap
        return found

    async def _cancel(self, request: CancelPlan, claims: Document) -> Document:
        async with self._deciding[request.id]:
            found = await self._task(request.id, claims)
            if "error" in found:
                return found
            if found["task"]["status"]["state"].removeprefix("TASK_STATE_") in TERMINAL:
                return {"error": {"code": "not_cancelable", "message": "it has ended", "retryable": False}}
            await self.publish(status(request.id, self.owners[request.id], "CANCELED"))
            return await self._task(request.id, claims)

    async def _start(self, request: StartPlan, claims: Document) -> Document:
        continued = request.message.get("taskId")
        plan = continued or f"plan_{uuid.uuid5(uuid.NAMESPACE_URL, claims['sub'] + request.message['messageId']).hex}"
        text = request.message["parts"][0].get("text", "")
        async with self._deciding[plan]:
            if continued is not None:
                await self.publish(status(plan, claims["sub"], "WORKING", text, role="USER"))
            elif plan not in self.owners:
                await self.begin(claims["sub"], text, plan)
            return await self._task(plan, claims)

    async def _list(self, request: ListPlans, claims: Document) -> Document:
        for storing in [lock for lock in self._storing.values() if lock.locked()]:
            async with storing:
                pass  # what has just been seen elsewhere is listed, too
        mine = [plan for plan, owner in self.owners.items() if owner == claims["sub"]]
        tasks = [(await self._task(plan, claims))["task"] for plan in mine[: request.page_size]]
        end = max((self.stored[plan][-1][0] for plan in mine), default=0)
        return {
            "tasks": tasks,
            "next_page_token": "",
            "total_size": len(mine),
            "page_size": request.page_size,
            "cursor": f"{self._prefix}{end}",
        }

    async def _task(self, plan: str, claims: Document, upto: int | None = None) -> Document:
        """The task as of a sequence, and the cursor from which to follow it; with all that is being stored now."""
        async with self._storing[plan]:
            return self._noted(plan, claims, upto)

    def _noted(self, plan: str, claims: Document, upto: int | None) -> Document:
        if claims["role"] != "admin" and self.owners.get(plan) != claims["sub"]:
            return {"error": {"code": "not_found", "message": "there is no such plan", "retryable": False}}
        events = [(at, document) for at, document in self.stored[plan] if upto is None or at <= upto]
        task: Document = {"id": plan, "contextId": f"context_{plan}", "history": [], "artifacts": []}
        for _, document in events:
            _apply(task, document)
        end = events[-1][0] if upto is None else upto
        return {"task": task, "cursor": f"{self._prefix}{end}"}


def _apply(task: Document, document: Document) -> None:
    data = document["data"]
    if document["type"] == "PLAN_STATUS_UPDATED":
        task["status"] = data["status"]
        if "message" in data["status"]:
            task["history"].append(data["status"]["message"])
    elif document["type"] == "PLAN_ARTIFACT_UPDATED":
        known = next((one for one in task["artifacts"] if one["artifactId"] == data["artifact"]["artifactId"]), None)
        if known is None:
            task["artifacts"].append({**data["artifact"], "parts": list(data["artifact"]["parts"])})
        else:
            known["parts"] += data["artifact"]["parts"]


@contextlib.asynccontextmanager
async def planning(nats_url: str) -> AsyncIterator[Planner]:
    """A planner at `nats_url`, answering."""
    async with marketplace(nats_url) as market:
        prefix = (await market.cursor(0, stream="PLANS")).removesuffix("0")
        planner = Planner(market, prefix)
        running: set[asyncio.Task[None]] = set()

        async def on_message(message: Msg) -> None:
            task = asyncio.ensure_future(planner.answer(message))
            running.add(task)
            task.add_done_callback(running.discard)

        subscription = await market.client.subscribe("svc.plans.*", queue=QUEUE, cb=on_message)
        await market.client.flush()
        try:
            yield planner
        finally:
            await subscription.unsubscribe()
            await asyncio.gather(*running)
