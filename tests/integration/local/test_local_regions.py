"""`--regions`: a hub and regions as one command; what is published at the hub is delivered in each, and it all ends."""

import json
from pathlib import Path

import httpx
import pytest
from httpx_sse import connect_sse

from contracts.envelope import CONTENT_TYPE
from tests.harness.events import event, fresh
from tests.harness.tokens import token
from tests.integration.local.system import RunningSystem, ended, start

pytestmark = pytest.mark.xdist_group("local")


def test_an_event_of_the_hub_is_delivered_in_every_region_and_nothing_stays_behind(tmp_path: Path) -> None:
    with RunningSystem(tmp_path, "--no-traffic", "--regions", "eu,us") as system:
        assert set(system.told["regions"]) == {"eu", "us"}
        document = event("ORDER_CREATED", buyer=fresh("buyer"))
        headers = {"Authorization": f"Bearer {system.told['tokens']['service']}", "Content-Type": CONTENT_TYPE}
        httpx.post(f"{system.ingest}/v1/events", json=document, headers=headers).raise_for_status()
        ids = {gateway: first_event(gateway, document["data"]["buyer_id"]) for gateway in gateways(system)}
        assert len(ids) == 3
        assert len(set(ids.values())) == 1, "the same event under the same cursor everywhere"
        for name, at in system.told["regions"].items():
            facts = httpx.get(f"{at['relay']}/readyz").json()
            assert (facts["ready"], facts["region"]) == (True, name)
        end = system.stop()
    assert (end.code, end.out) == (0, "")
    assert end.seconds < 10


def test_a_region_that_cannot_be_is_one_line_and_code_2(tmp_path: Path) -> None:
    end = ended(start(tmp_path, "--regions", "eu,hub"))
    assert end.code == 2
    assert "'hub' is no name for a region" in end.err


def gateways(system: RunningSystem) -> list[str]:
    return [system.gateway, *(at["gateway"] for at in system.told["regions"].values())]


def first_event(gateway: str, buyer: str) -> str:
    """Cursor and id of the buyer's first event, over SSE."""
    headers = {"Authorization": f"Bearer {token(buyer, 'buyer')}"}
    query = {"channel": f"buyer:{buyer}", "cursor": "earliest"}
    with (
        httpx.Client(timeout=15) as client,
        connect_sse(client, "GET", f"{gateway}/v1/events", params=query, headers=headers) as source,
    ):
        found = next(block for block in source.iter_sse() if block.event.isupper())
        return f"{found.id} {json.loads(found.data)['id']}"
