"""A gateway and a publisher on the shared nats-server."""

from collections.abc import AsyncIterator

import pytest

from tests.harness.gateway import Gateway, Publisher, publishing, running_gateway


@pytest.fixture
async def gateway(nats_server: str) -> AsyncIterator[Gateway]:
    """A ready gateway in this process."""
    async with running_gateway(nats_server) as found:
        yield found


@pytest.fixture
async def publisher(nats_server: str, gateway: Gateway) -> AsyncIterator[Publisher]:
    """Stores events on the gateway's server, whose streams exist by then."""
    async with publishing(nats_server) as found:
        yield found
