"""A domain that the services were never told of but by A2A_DOMAINS: docs/new-domain.md, step by step."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from contracts.envelope import BATCH_CONTENT_TYPE
from contracts.publishing import derived_id, new_event
from contracts.registry import Registry
from services.local.embedded import EmbeddedNats
from tests.domains.shipment import DOMAIN as SHIPMENT
from tests.harness.gateway import Gateway
from tests.harness.tokens import bearer
from tests.integration.shipment.site import DOMAIN, ROOT, Site, environment, running, site

DOCUMENT = (ROOT / "docs" / "new-domain.md").read_text()
MODULE, PUBLISHER = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
COMMAND, SETTING = re.findall(r"```sh\n(.*?)\n```", DOCUMENT, re.DOTALL)
REGISTRY = Registry(SHIPMENT.events)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KINDS = ("SHIPMENT_CREATED", "SHIPMENT_MOVED", "SHIPMENT_DELIVERED")

pytestmark = pytest.mark.asyncio(loop_scope="module")


def shipment(name: str, *, carrier: str = "kurt", buyer: str = "ada") -> list[dict[str, Any]]:
    """A whole shipment, in order."""
    ids = {"order_id": f"order_{name}", "buyer_id": buyer, "carrier_id": carrier, "shipment_id": name}
    found = []
    for kind in KINDS:
        contract = REGISTRY.newest(kind)
        assert contract is not None
        data = {**contract.example, **ids}
        source = "urn:a2a:service:carrier"
        found.append(new_event(kind, data, id=derived_id(name, kind), source=source, time=NOON, registry=REGISTRY))
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    nats = EmbeddedNats(tmp_path_factory.mktemp("nats")).start()
    try:
        async with site(nats) as found:
            yield found
    finally:
        nats.stop()


async def publish(place: Site, events: list[Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=place.ingest, headers=bearer("carrier-system", "service")) as client:
        return await client.post("/v1/events", json=events, headers={"Content-Type": BATCH_CONTENT_TYPE})


async def delivered(gateway: Gateway, sub: str, role: str, channel: str, **start: Any) -> list[dict[str, Any]]:
    """What a fresh subscription replays."""
    async with gateway.websocket(sub, role) as socket:
        told = await socket.subscribe(channel, **start)
        return [message["event"] for message in told if message["op"] == "event"]


async def test_the_module_of_the_document_is_the_one_that_runs() -> None:
    assert (ROOT / "tests" / "domains" / "shipment.py").read_text() == MODULE
    assert f"A2A_DOMAINS={DOMAIN}" == SETTING


async def test_its_events_are_delivered_live_to_its_own_role_in_order(place: Site) -> None:
    events = shipment("live1")
    async with (
        place.gateway.websocket("kurt", "carrier") as carrier,
        place.gateway.websocket("ada", "buyer") as buyer,
        place.gateway.websocket("root", "admin") as admin,
    ):
        await carrier.subscribe("carrier:kurt")
        await buyer.subscribe("shipment:live1")
        await admin.subscribe("shipment:live1")
        answer = await publish(place, events)
        assert answer.status_code == 200, answer.text
        for socket in (carrier, buyer, admin):
            messages = [await socket.read() for _ in events]
            assert [message["event"] for message in messages] == events
            assert [message["cursor"] for message in messages] == [one["cursor"] for one in answer.json()]


async def test_its_events_are_replayed_from_the_start_and_from_any_cursor(place: Site) -> None:
    events = shipment("replay1")
    cursors = [one["cursor"] for one in (await publish(place, events)).json()]
    assert cursors[0].startswith("SHIPMENTS.")
    assert await delivered(place.gateway, "kurt", "carrier", "shipment:replay1", cursor="earliest") == events
    assert await delivered(place.gateway, "kurt", "carrier", "carrier:kurt", last=3) == events
    assert await delivered(place.gateway, "ada", "buyer", "shipment:replay1", cursor=cursors[0]) == events[1:]


async def test_its_past_is_read_below_the_log_of_a_replica_that_was_not_there(place: Site) -> None:
    events = shipment("past1")
    await publish(place, events)
    async with running("gateway", place.nats_url, A2A_LOG_WARM_EVENTS="0") as url:
        assert await delivered(Gateway(url), "kurt", "carrier", "shipment:past1", cursor="earliest") == events


async def test_it_is_read_by_pages_and_as_an_event_stream(place: Site) -> None:
    events = shipment("paged1")
    await publish(place, events)
    async with place.gateway.http as client:
        page = await client.get("/v1/channels/shipment:paged1/events?limit=2", headers=bearer("ada", "buyer"))
    assert [one["event"] for one in page.json()["events"]] == events[:2]
    async with place.gateway.events("channel=shipment:paged1&cursor=earliest", "ada", "buyer") as stream:
        blocks = await stream.read_until("live")
    assert [json.loads(block["data"]) for block in blocks if block.get("event") in KINDS] == events


@pytest.mark.parametrize(("sub", "role"), [("olga", "carrier"), ("ben", "buyer")])
async def test_a_stranger_subscribes_and_sees_nothing(place: Site, sub: str, role: str) -> None:
    await publish(place, shipment("private1"))
    assert await delivered(place.gateway, sub, role, "shipment:private1", cursor="earliest") == []


@pytest.mark.parametrize(
    ("sub", "role", "channel"),
    [("olga", "carrier", "carrier:kurt"), ("kurt", "carrier", "order:o1"), ("n", "node", "shipment:s")],
)
async def test_a_role_that_a_channel_does_not_name_is_refused(place: Site, sub: str, role: str, channel: str) -> None:
    async with place.gateway.websocket(sub, role) as socket:
        answer = await socket.ask(op="subscribe", id=1, channel=channel)
    assert (answer["op"], answer["error"]["code"]) == ("error", "forbidden")


async def test_an_event_of_it_that_does_not_fit_is_refused_by_ingest(place: Site) -> None:
    (event, *_) = shipment("wrong1")
    event["data"]["carrier_id"] = "olga"
    answer = await publish(place, [event])
    assert answer.status_code == 422
    assert "/0/data/carrier_id" in answer.text


async def test_it_is_described_where_the_market_is(place: Site) -> None:
    for url in (place.gateway.url, place.ingest):
        async with httpx.AsyncClient(base_url=url) as client:
            listed = {one["type"] for one in (await client.get("/v1/contracts")).json()["contracts"]}
            assert {*KINDS, "ORDER_CREATED"} <= listed
            schema = (await client.get("/v1/contracts/SHIPMENT_MOVED/1")).json()
            assert schema["$id"] == "urn:a2a:contract:SHIPMENT_MOVED:1"
            described = (await client.get("/v1/asyncapi.json")).json()
            assert set(described["channels"]["carrier"]["messages"]) == {f"{kind}.1" for kind in KINDS}
            assert "carrier" in described["x-roles"]
            assert "carrier:{id}" in (await client.get("/docs")).text


async def test_the_publisher_of_the_document_publishes(place: Site, tmp_path: Path) -> None:
    (tmp_path / "publisher.py").write_text(PUBLISHER)
    command = [sys.executable, str(tmp_path / "publisher.py"), place.nats_url, "order_kit1", "ada", "kurt", "kit1"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, timeout=30, check=False, capture_output=True, text=True,
        env={**environment(place.nats_url), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SHIPMENTS ")
    (event,) = await delivered(place.gateway, "ada", "buyer", "shipment:kit1", cursor="earliest")
    assert event["data"]["place"] == "Oslo, hub 2"


async def test_the_command_of_the_document_commits_its_schemas_and_guards_them(tmp_path: Path) -> None:
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = COMMAND.replace("--folder schemas", f"--folder {tmp_path / 'schemas'}").split()[1:]
        command = [sys.executable, *arguments, *more]
        return subprocess.run(command, cwd=ROOT, timeout=30, check=False, capture_output=True, text=True)

    assert (await asyncio.to_thread(run, "--check")).returncode == 1
    assert (await asyncio.to_thread(run)).returncode == 0
    assert {path.name for path in (tmp_path / "schemas").iterdir()} == {f"{kind}.1.json" for kind in KINDS}
    assert (await asyncio.to_thread(run, "--check")).returncode == 0
    moved = tmp_path / "schemas" / "SHIPMENT_MOVED.1.json"
    moved.write_text(moved.read_text().replace('"place"', '"port"'))
    refused = await asyncio.to_thread(run)
    assert refused.returncode == 1
    assert "SHIPMENT_MOVED version 1: /data/port was removed; make it a new version" in refused.stderr


async def test_a_gateway_that_was_not_given_the_domain_knows_neither_its_role_nor_its_channels(place: Site) -> None:
    async with running("gateway", place.nats_url, A2A_DOMAINS="") as url:
        gateway = Gateway(url)
        async with gateway.http as client:
            answer = await client.get("/v1/channels/shipment:s/events", headers=bearer("ada", "buyer"))
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_channel")
            answer = await client.get("/v1/channels/shipment:s/events", headers=bearer("kurt", "carrier"))
            assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
