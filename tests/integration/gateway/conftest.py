"""A gateway and a publisher: on the shared nats-server, or on one of the test's own."""

from collections.abc import AsyncIterator

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace, marketplace


@pytest.fixture
async def gateway(nats_server: str) -> AsyncIterator[Gateway]:
    """A ready gateway in this process."""
    async with running_gateway(nats_server) as found:
        yield found


@pytest.fixture
async def publisher(nats_server: str) -> AsyncIterator[Marketplace]:
    """Stores events on the gateway's server."""
    async with marketplace(nats_server) as found:
        yield found


@pytest.fixture
async def market(fresh_nats: EmbeddedNats) -> AsyncIterator[Marketplace]:
    """Streams of the test's own, on a nats-server of its own."""
    async with marketplace(fresh_nats.url) as found:
        yield found
