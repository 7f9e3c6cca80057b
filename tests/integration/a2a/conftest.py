"""A gateway and a planner for all tests of a file."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.harness.gateway import Gateway, running_gateway
from tests.harness.planner import Planner, planning


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(nats_server: str) -> AsyncIterator[Gateway]:
    """A ready gateway in this process; a quiet stream is written to at once."""
    async with running_gateway(nats_server, task_idle_s=0.5, task_wait_s=5) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def planner(nats_server: str) -> AsyncIterator[Planner]:
    """Publishes plans and answers for them."""
    async with planning(nats_server) as found:
        yield found
