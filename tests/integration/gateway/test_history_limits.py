"""History is bounded as connections are: in number, in patience, and in what an unread answer may hold."""

import asyncio
import json

import pytest

from tests.harness.events import event, fresh
from tests.harness.gateway import Gateway, GatewayProcess, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.raw import connected, request
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_long_polls_count_as_connections_of_their_principal(nats_server: str) -> None:
    buyer = fresh("buyer")
    path = f"/v1/channels/buyer:{buyer}/events?wait=20"
    async with running_gateway(nats_server, max_connections_per_principal=2) as gateway, gateway.http as client:
        assert gateway.replica is not None
        replica = gateway.replica
        polls = [asyncio.create_task(client.get(path, headers=bearer(buyer, "buyer"))) for _ in range(2)]
        await until(lambda: len(replica.polls) == 2)
        third = await client.get(path, headers=bearer(buyer, "buyer"))
        assert (third.status_code, third.json()["code"]) == (429, "too_many_connections")
        replica.drain()
        assert [(await poll).json()["events"] for poll in polls] == [[], []]
        assert replica.principals == {}
        assert (await client.get(path, headers=bearer(buyer, "buyer"))).json()["code"] == "draining"


async def test_a_client_that_does_not_take_its_page_is_cut_off(nats_server: str, publisher: Marketplace) -> None:
    buyer = fresh("buyer")
    padding = {"reference": "x" * 2000}
    await publisher.publish_all([event("PAYMENT_SUCCEEDED", buyer=buyer, data=padding) for _ in range(900)])
    async with running_gateway(nats_server, stall_s=0.5, log_warm_events=0) as gateway:
        assert gateway.replica is not None
        replica = gateway.replica
        async with connected(gateway.url, receive_bytes=4096, limit=4096) as raw:
            await raw.send(request(f"/v1/channels/buyer:{buyer}/events?limit=900", buyer))
            await until(lambda: replica.principals.get(buyer) == 1, what="the page is being sent")
            await until(lambda: not replica.principals, what="the client is cut off")
        async with gateway.http as client:
            page = await client.get(f"/v1/channels/buyer:{buyer}/events?limit=900", headers=bearer(buyer, "buyer"))
            assert len(page.json()["events"]) == 900


async def test_sigterm_answers_a_long_poll(nats_server: str) -> None:
    process = GatewayProcess(nats_server)
    gateway = await process.start()
    try:
        async with connected(gateway.url) as raw:
            await raw.send(request("/v1/channels/buyer:b1/events?wait=20&after=earliest"))
            async with gateway.http as client:

                async def waits() -> bool:
                    return 'a2a_readers{stream="MARKET"} 1.0' in (await client.get("/metrics")).text

                await until(waits)
            stopping = asyncio.create_task(process.stop())
            head = await raw.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b'"events":[' in await raw.read_all()
            assert await stopping == 0
    finally:
        process.kill()


@pytest.mark.parametrize("last", ["9" * 5000, "0", "1001", "-1", "1_0", "١"])
async def test_a_last_that_is_no_number_from_1_to_1000_is_a_parameter_error(gateway: Gateway, last: str) -> None:
    async with gateway.http as client:
        answer = await client.get(
            "/v1/events", params={"channel": "buyer:b1", "last": last}, headers=bearer("b1", "buyer")
        )
    assert (answer.status_code, json.loads(answer.text)["code"]) == (400, "invalid_parameter")


async def test_nobody_reads_for_a_client_that_has_left(nats_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.gateway.bus.history import History
    from services.gateway.core.log import Life
    from services.gateway.core.replay import Answer, Need, NeedBounds, NeedTime, Placed

    async with running_gateway(nats_server) as gateway:
        assert gateway.replica is not None
        archive = gateway.replica.streams["MARKET"].archive
        assert isinstance(archive, History)
        read: list[object] = []
        original = archive._here.read

        async def noting(life: Life, need: Need) -> Answer:
            read.append(need)
            return await original(life, need)

        monkeypatch.setattr(archive._here, "read", noting)
        answers: list[Answer] = []
        archive.ask(NeedTime(0), answers.append, lambda: False)
        archive.ask(NeedBounds(), answers.append, lambda: True)
        await until(lambda: answers)
        assert read == [NeedBounds()]
        assert not any(isinstance(answer, Placed) for answer in answers)
