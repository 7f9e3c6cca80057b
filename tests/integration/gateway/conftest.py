"""A gateway and a publisher: on the shared nats-server, or on one of the test's own.

The first two live as long as a file, and so does its event loop: what one client does is to harm no later one.
"""

from collections.abc import AsyncIterator

import pytest_asyncio

from services.local.embedded import EmbeddedNats
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace, marketplace


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(nats_server: str) -> AsyncIterator[Gateway]:
    """A ready gateway in this process."""
    async with running_gateway(nats_server) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def publisher(nats_server: str) -> AsyncIterator[Marketplace]:
    """Stores events on the gateway's server."""
    async with marketplace(nats_server) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def market(fresh_nats: EmbeddedNats) -> AsyncIterator[Marketplace]:
    """Streams of the test's own, on a nats-server of its own."""
    async with marketplace(fresh_nats.url) as found:
        yield found
