"""Control as it starts: who is revoked is known as soon as it can be, for until then nobody is let in."""

import asyncio
import contextlib

import pytest
from nats.aio.client import Client

from contracts.topology import fleet
from services.chassis import control, jetstream
from services.chassis.control import ControlReader
from services.chassis.revocations import Revocations
from services.chassis.telemetry import logger
from services.local.embedded import EmbeddedNats
from tests.harness.streams import looking_at
from tests.harness.waiting import until


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
