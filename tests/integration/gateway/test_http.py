"""History pages, long poll, problems, contracts, health (PROTOCOL §7)."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from services.chassis.launch import verifier_of
from services.gateway.app import build
from services.gateway.transports.takeover import GatewayHttp
from services.local.embedded import EmbeddedNats
from tests.harness.asgi import serving
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, is_ready, running_gateway, settings
from tests.harness.marketplace import Marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def page(gateway: Gateway, buyer: str, query: str = "") -> Any:
    async with gateway.http as client:
        answer = await client.get(f"/v1/channels/buyer:{buyer}/events{query}", headers=bearer(buyer, "buyer"))
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_pages_cover_everything_once(gateway: Gateway, publisher: Marketplace, limit: int) -> None:
    buyer = fresh("buyer")
    documents = await publisher.orders(23 if limit == 1 else 230, buyer=buyer)
    seen: list[str] = []
    query = f"?limit={limit}"
    pages = 0
    while True:
        found = await page(gateway, buyer, query)
        pages += 1
        assert len(found["events"]) <= limit
        seen += [one["event"]["id"] for one in found["events"]]
        if found["live"]:
            break
        assert found["cursor"] == found["events"][-1]["cursor"]
        query = f"?limit={limit}&after={found['cursor']}"
    assert seen == [one["id"] for one in documents]
    assert pages == len(documents) // limit + 1
    assert found["cursor"] == await publisher.cursor()


async def test_since_and_after_choose_where_a_page_begins(gateway: Gateway, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    documents = await publisher.orders(3, buyer=buyer)
    everything = await page(gateway, buyer)
    middle = everything["events"][1]["cursor"]
    assert [one["event"]["id"] for one in (await page(gateway, buyer, f"?after={middle}"))["events"]] == [
        documents[2]["id"]
    ]
    assert len((await page(gateway, buyer, "?after=earliest"))["events"]) == 3
    assert len((await page(gateway, buyer, "?since=2020-01-01T00:00:00Z"))["events"]) == 3
    assert len((await page(gateway, buyer, "?since=2020-01-01T00:00:00%2B02:00"))["events"]) == 3


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=1.5",
        "limit=x",
        "limit=",
        "limit=nan",
        "limit=1_0",
        "wait=-1",
        "wait=30.1",
        "wait=inf",
        "wait=nan",
        "since=now",
        "since=2026-01-01T00:00:00",
        "since=2026-01-01T00:00:00Z&after=earliest",
    ],
)
async def test_a_parameter_out_of_bounds_is_told(gateway: Gateway, query: str) -> None:
    found = await page(gateway, "b1", f"?{query}")
    assert (found["status"], found["code"]) == (400, "invalid_parameter")


async def test_a_long_poll_wakes_at_the_first_event_and_answers_empty_when_its_time_is_over(
    gateway: Gateway, publisher: Marketplace
) -> None:
    buyer = fresh("buyer")
    start = time.monotonic()
    found = await page(gateway, buyer, "?wait=0.3")
    assert (found["events"], found["live"]) == ([], True)
    assert 0.25 < time.monotonic() - start < 2
    polling = asyncio.create_task(page(gateway, buyer, f"?wait=20&after={found['cursor']}"))
    replica = gateway.replica
    assert replica is not None
    await until(lambda: replica.streams["MARKET"].readers)
    await publisher.orders(1)  # somebody else's
    (document,) = await publisher.orders(1, buyer=buyer)
    found = await polling
    assert [one["event"]["id"] for one in found["events"]] == [document["id"]]
    assert time.monotonic() - start < 5
    again = await page(gateway, buyer, f"?wait=0.05&after={found['cursor']}")
    assert again["events"] == []
    assert len((await page(gateway, buyer, "?wait=20"))["events"]) == 1  # what is there is not waited for
    assert not replica.streams["MARKET"].readers


async def test_problems_are_problem_json(gateway: Gateway) -> None:
    async with gateway.http as client:
        for method, path, status, code in (
            ("GET", "/v1/nothing", 404, "not_found"),
            ("GET", "/v1/channels/buyer:b1/nothing", 404, "not_found"),
            ("POST", "/v1/events", 405, "method_not_allowed"),
            ("PUT", "/v1/session", 405, "method_not_allowed"),
            ("GET", "/v1/events", 401, "unauthenticated"),
            ("GET", "/v1/channels/buyer:b1/events", 401, "unauthenticated"),
            ("POST", "/v1/session", 401, "unauthenticated"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json().keys() >= {"type", "title", "status", "detail", "code", "retryable"}
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
            if status == 405:
                assert "allow" in answer.headers
        answer = await client.get("/v1/channels/nothing:x/events", headers=bearer("b1", "buyer"))
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_channel")


async def test_contracts_are_served(gateway: Gateway) -> None:
    async with gateway.http as client:
        listed = (await client.get("/v1/contracts")).json()
        assert "ORDER_CREATED" in str(listed)
        schema = (await client.get("/v1/contracts/ORDER_CREATED/1")).json()
        assert schema["examples"][0]["type"] == "ORDER_CREATED"
        assert (await client.get("/v1/contracts/ORDER_CREATED/9")).status_code == 404


async def test_the_metrics_tell_what_is_going_on(nats_server: str, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    async with (
        running_gateway(nats_server) as gateway,
        gateway.http as client,
        gateway.websocket(buyer) as socket,
        gateway.events(f"channel=buyer:{buyer}", buyer) as blocks,
    ):
        await socket.subscribe(f"buyer:{buyer}")
        await blocks.read_until("live")
        await publisher.orders(2, buyer=buyer)
        assert (await socket.ask(op="dance"))["op"]
        text = (await client.get("/metrics")).text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert lines["a2a_deliveries_total"] == "4.0"
        assert lines['a2a_connections{transport="sse"}'] == "1.0"
        assert lines['a2a_connections{transport="websocket"}'] == "1.0"
        assert lines['a2a_problems_total{code="unknown_op"}'] == "1.0"
        assert lines['a2a_readers{stream="MARKET"}'] == "2.0"
        assert lines['a2a_live_keys{stream="MARKET"}'] == "1.0"
        assert buyer not in text


async def test_readiness_follows_nats(make_nats: Any) -> None:
    nats: EmbeddedNats = make_nats()
    chosen = settings(nats.url)
    app = build(chosen, verifier_of(chosen), lambda reason: None)
    async with serving(app, http=GatewayHttp) as url, httpx.AsyncClient(base_url=url) as client:
        gateway = Gateway(url, app.state.replica)
        found = (await client.get("/readyz")).json()
        assert found["ready"] is False
        assert found["failing"].keys() == {"nats", "streams", "revocations"}
        assert (await client.get("/livez")).text == "ok\n"
        assert (await client.get("/metrics")).status_code == 200
        answer = await client.get("/v1/channels/buyer:b1/events", headers=bearer("b1", "buyer"))
        # Whose token is revoked is not known yet.
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        async with gateway.websocket("b1") as socket:
            assert socket.welcome["error"]["code"] == "unavailable"
            assert socket.welcome["error"]["retry_after_ms"] == 1000
            assert await socket.closed() == 4100
        async with gateway.events("channel=buyer:b1") as blocks:
            assert (await blocks.read_until("problem"))[-1]
        await asyncio.to_thread(nats.start)
        await is_ready(gateway)
        app.state.replica.draining = True
        assert (await client.get("/readyz")).json()["failing"].keys() == {"draining"}
        app.state.replica.draining = False
        await asyncio.to_thread(nats.kill)

        async def unready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(unready)
        assert (await client.get("/livez")).status_code == 200
        await asyncio.to_thread(nats.start)
        await is_ready(gateway)


async def test_a_page_of_the_largest_events_stays_within_bounds(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    documents = await market.orders(100, buyer="b1", padding=250 * 1024)
    async with running_gateway(fresh_nats.url, log_bytes=1024**2) as gateway:
        seen: list[str] = []
        query = "?limit=1000"
        while True:
            found = await page(gateway, "b1", query)
            assert len(found["events"]) <= 40
            seen += [one["event"]["id"] for one in found["events"]]
            if found["live"]:
                break
            query = f"?limit=1000&after={found['cursor']}"
        assert seen == [one["id"] for one in documents]
