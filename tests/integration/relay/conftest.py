"""A connection to a nats-server of the test's own."""

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from services.chassis.jetstream import connect
from services.chassis.telemetry import logger
from services.local.embedded import EmbeddedNats


@pytest.fixture
async def client(fresh_nats: EmbeddedNats) -> AsyncIterator[Client]:
    connected = await connect(fresh_nats.url, name="test", log=logger("test"))
    yield connected
    await connected.close()
