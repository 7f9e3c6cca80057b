"""The integration tests once more, against a NATS server in a container.

Where the engine reaches no image registry, TESTCONTAINERS_RYUK_DISABLED=true does without the reaper's image.
"""

import os
import sys

import pytest

from tests.containers.conftest import HOW, said
from tests.harness.nats import nats_container

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # testcontainers' own, of its older parts
]


def test_what_holds_on_the_embedded_server_holds_on_one_in_a_container(engine: None) -> None:
    with nats_container() as url:
        if url is None:
            pytest.skip(HOW)
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not outage")
        folders = ("tests/integration/gateway", "tests/integration/ingest/test_publishing.py")
        found = said((*command, *folders), environment={**os.environ, "NATS_URL": url}, seconds=600)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert " passed" in found.stdout
