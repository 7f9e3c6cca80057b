"""Control as it starts: who is revoked is known as soon as it can be, for until then nobody is let in."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.revocation import Revocation
from contracts.topology import fleet
from services.chassis import control, jetstream
from services.chassis.control import ControlReader
from services.chassis.direct import Batch, direct_get
from services.chassis.revocations import Revocations
from services.chassis.telemetry import logger
from services.local.embedded import EmbeddedNats
from tests.harness.streams import looking_at
from tests.harness.waiting import until


@contextlib.asynccontextmanager
async def reading(client: Client) -> AsyncIterator[Revocations]:
    """What a service knows that has begun just now."""

    async def connection() -> Client | None:
        return client

    known = Revocations()
    running = asyncio.create_task(ControlReader(connection, known, logger("test")).run())
    try:
        yield known
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_before_a_copy_that_is_behind_has_caught_up_nobody_is_let_in(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    async def from_a_copy(*asked: Any) -> Batch:
        """Three reads long it lacks the last one."""
        batch = await direct_get(*asked)
        reads.append(len(batch.messages))
        return batch if len(reads) > 3 else Batch(tuple(one for one in batch.messages if one.sequence == 1), more=False)

    monkeypatch.setattr(control, "direct_get", from_a_copy)
    async with looking_at(fresh_nats.url) as client:
        await jetstream.ensure(client, fleet())
        now = time.time()
        for sub in ("b1", "b2"):
            revocation = Revocation(at=now, until=now + 3600, sub=sub)
            await client.request(revocation.subject, revocation.encoded())
        async with reading(client) as known:
            await until(lambda: known.is_current, what="it is known who is revoked")
            assert len(known) == 2
    assert len(reads) == 4


@pytest.mark.parametrize("standing", [0, 1])
async def test_what_was_said_last_may_have_ended_since(fresh_nats: EmbeddedNats, standing: int) -> None:
    async with looking_at(fresh_nats.url) as client:
        await jetstream.ensure(client, fleet())
        now = time.time()
        for sub, seconds in (("b1", 3600), ("b2", 1))[1 - standing :]:
            revocation = Revocation(at=now, until=now + seconds, sub=sub)
            await client.request(revocation.subject, revocation.encoded(), headers={"Nats-TTL": f"{seconds}s"})

        async def ended() -> bool:
            return (await jetstream.state(client, "CONTROL")).messages == standing

        await until(ended, what="the server has let go of it")
        async with reading(client) as known:
            await until(lambda: known.is_current, what="it is known who is revoked")
            assert len(known) == standing


async def test_until_the_stream_answers_for_the_first_time_it_is_looked_for_again_soon(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LOOK_SECONDS", 3600.0)
    looks = 0
    async with looking_at(fresh_nats.url) as client:

        async def connection() -> Client | None:
            """Not there at once; and the stream is made by another service a moment later."""
            nonlocal looks
            looks += 1
            if looks == 4:
                await jetstream.ensure(client, fleet())
            return client if looks > 2 else None

        known = Revocations()
        running = asyncio.create_task(ControlReader(connection, known, logger("test")).run())
        try:
            await until(lambda: known.is_current, what="it is known who is revoked")
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    assert looks == 4
