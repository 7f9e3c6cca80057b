"""An example agent, written with a2a-sdk and nothing else: it plans a purchase.

Say what to buy, as `200 hours of GPU time, at most 1500 EUR`. Without a price it asks for one, and goes on when it is
told. It asks nobody: the offers that it compares follow from the words, so that the same request has the same plan.
"""

import asyncio
import re
import zlib
from dataclasses import dataclass

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types.a2a_pb2 import Message, Part, Role
from google.protobuf.struct_pb2 import Struct, Value

from services.plans.executor import PlanExecutor
from services.plans.sdk import sdk_executor

_NODES = ("node_oslo", "node_turin", "node_porto")
_PRICE = re.compile(r"(\d{1,9})(?:[.,](\d{1,2}))?\s*(?:EUR|€)", re.IGNORECASE)
_OFFERS = "offers"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node would take."""

    node: str
    euros: int


class PurchasePlanner(AgentExecutor):
    """Looks at three offers within a price, one a step, and recommends the least."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """One turn; after a crash it goes on behind the offers that its task has already."""
        updater = TaskUpdater(event_queue, context.task_id or "", context.context_id or "")
        said = [part.text for message in _history(context) for part in message.parts if part.text]
        found = next((_PRICE.search(text) for text in reversed(said) if _PRICE.search(text)), None)
        if found is None:
            question = updater.new_agent_message([Part(text="What may it cost at most? Say it like: 1500 EUR")])
            await updater.requires_input(question)
            return
        wish, most = said[0] if said else "", int(found[1])
        await updater.start_work(updater.new_agent_message([Part(text="Comparing offers.")]))
        offers = offers_for(wish, most)
        known = _parts_of(context, _OFFERS)
        for index, offer in enumerate(offers):
            if index < known:
                continue
            await asyncio.sleep(self._step_seconds)
            line = f"{offer.node}: {offer.euros} EUR"
            await updater.add_artifact(
                [Part(text=line)], _OFFERS, "Offers", append=index > 0, last_chunk=index == len(offers) - 1
            )
        await asyncio.sleep(self._step_seconds)
        await updater.add_artifact([_as_data(best_of(offers))], "plan", "The plan")
        word = f"Buy from {best_of(offers).node} for {best_of(offers).euros} EUR."
        await updater.complete(updater.new_agent_message([Part(text=word)]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Nothing was begun elsewhere."""


def offers_for(wish: str, most: int) -> list[Offer]:
    """Three offers, none above `most`; the same for the same words."""
    seeds = [zlib.crc32(f"{node}:{wish}".encode()) % 30 for node in _NODES]
    return [Offer(node, most * (100 - seed) // 100) for node, seed in zip(_NODES, seeds, strict=True)]


def best_of(offers: list[Offer]) -> Offer:
    """The least; of equal ones the first."""
    return min(offers, key=lambda offer: offer.euros)


def _history(context: RequestContext) -> list[Message]:
    task = context.current_task
    return [one for one in task.history if one.role == Role.ROLE_USER] if task is not None else []


def _parts_of(context: RequestContext, artifact_id: str) -> int:
    task = context.current_task
    artifacts = task.artifacts if task is not None else ()
    return next((len(one.parts) for one in artifacts if one.artifact_id == artifact_id), 0)


def _as_data(offer: Offer) -> Part:
    fields = Struct()
    fields.update({"node": offer.node, "price": {"amount": f"{offer.euros}.00", "currency": "EUR"}})
    return Part(data=Value(struct_value=fields))


def executor(step_seconds: float) -> PlanExecutor:
    """The default of `A2A_PLAN_EXECUTOR`."""
    return sdk_executor(PurchasePlanner(step_seconds))
