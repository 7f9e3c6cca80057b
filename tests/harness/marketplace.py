"""A nats-server of a test's own with the streams made, and what is done to streams behind a gateway's back."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from nats.aio.client import Client

from contracts.topology import canaries, fleet, streams
from services.chassis import jetstream
from tests.harness.events import event, fresh
from tests.harness.gateway import MARKET_BYTES, Publisher, publishing
from tests.harness.waiting import until


class Marketplace(Publisher):
    """Stores events, and does to the streams what operators and accidents do."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.jetstream = client.jetstream()

    async def declare(self) -> None:
        """Make the streams where they are missing."""
        await jetstream.ensure(self.client, (*streams(market_max_bytes=MARKET_BYTES), *fleet(), *canaries()))

    async def state(self, stream: str = "MARKET") -> jetstream.StreamState:
        return await jetstream.state(self.client, stream)

    async def cursor(self, sequence: int | None = None, stream: str = "MARKET") -> str:
        """The cursor at `sequence`, else at the stream's end."""
        state = await self.state(stream)
        return f"{stream}.{state.epoch}.{state.last if sequence is None else sequence}"

    async def purge(self, keep: int = 0, stream: str = "MARKET") -> None:
        """Trim the stream, as age or size would."""
        await self.jetstream.purge_stream(stream, keep=keep)

    async def delete(self, *sequences: int, stream: str = "MARKET") -> None:
        """Remove single messages."""
        for sequence in sequences:
            await self.jetstream.delete_msg(stream, sequence)

    async def remake(self, stream: str = "MARKET") -> None:
        """Delete the stream and its replay mirror and make them again: a new epoch."""
        for name in (f"{stream}_REPLAY", stream):
            with contextlib.suppress(jetstream.JetStreamError):
                await jetstream.request(self.client, f"STREAM.DELETE.{name}")
        await self.declare()

    async def mirrored(self, stream: str = "MARKET") -> None:
        """Wait until the replay mirror has everything."""

        async def caught_up() -> bool:
            return (await self.state(f"{stream}_REPLAY")).last >= (await self.state(stream)).last

        await until(caught_up, what="the mirror has everything")

    async def orders(self, number: int, *, padding: int = 0, **keys: str) -> list[dict[str, Any]]:
        """Store so many ORDER_CREATED of one order, unless `keys` say more; each as large as `padding` makes it."""
        ids: Any = {"buyer": fresh("buyer"), "order": fresh("order"), **keys}
        documents = [
            event("ORDER_CREATED", data={"note": "x" * padding} if padding else None, **ids) for _ in range(number)
        ]
        await self.publish_all(documents)
        return documents

    async def plan(self, owner: str, plan: str, state: str = "working", *, final: bool = False) -> int:
        """Store one event of a plan."""
        document = {"specversion": "1.0", "id": fresh("e"), "source": "urn:t", "type": "PLAN_STATUS_UPDATED"}
        if final:
            document["final"] = True  # type: ignore[assignment]
        body = {**document, "data": {"state": state}}
        return await self.raw(f"plan.{owner}.{plan}", json.dumps(body).encode())


@contextlib.asynccontextmanager
async def marketplace(nats_url: str) -> AsyncIterator[Marketplace]:
    """The streams at `nats_url`, made."""
    async with publishing(nats_url) as publisher:
        found = Marketplace(publisher.client)
        await found.declare()
        yield found
