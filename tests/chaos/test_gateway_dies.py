"""A gateway is killed under load: its clients go on at another one, without gap or duplicate."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.gateway import Gateway, GatewayProcess
from tests.harness.marketplace import Marketplace
from tests.harness.raw import connected, handshake, request
from tests.harness.witness import stress, witnesses

pytestmark = pytest.mark.chaos


@contextlib.asynccontextmanager
async def process(nats: EmbeddedNats, **environment: str) -> AsyncIterator[GatewayProcess]:
    found = GatewayProcess(nats.url, A2A_MAX_CONNECTIONS_PER_PRINCIPAL="1000", **environment)
    try:
        await found.start()
        yield found
    finally:
        found.kill()


async def test_clients_of_a_killed_gateway_resume_at_another_without_gap_or_duplicate(
    nats: EmbeddedNats, market: Marketplace
) -> None:
    async with process(nats) as first, process(nats) as second, stress(market, "b1") as load:
        now: list[Gateway] = [first.gateway]
        async with witnesses("b1", lambda: now[0]) as seen_by:
            start = len(load.acknowledged)
            await load.more(50)
            now[0] = second.gateway
            first.kill()
            await load.more(50)
            await first.start()
            now[0] = first.gateway
            second.kill()
            await load.more(50)
            await load.stop()
            for witness in seen_by:
                assert witness.connects >= 2
            for witness in seen_by:
                # From the first event seen on: when exactly each became live is not ours to say.
                wanted = load.acknowledged[load.acknowledged.index(witness.seen[0]) :]
                await witness.saw(wanted)
                assert len(wanted) >= len(load.acknowledged) - start - 5


async def test_a_gateway_that_stood_still_delivers_everything_when_it_goes_on(
    nats: EmbeddedNats, market: Marketplace
) -> None:
    async with (
        process(nats) as gateway,
        stress(market, "b1") as load,
        witnesses("b1", lambda: gateway.gateway) as seen_by,
    ):
        await load.more(20)
        assert gateway.process is not None
        os.kill(gateway.process.pid, signal.SIGSTOP)
        try:
            await load.more(300)
        finally:
            os.kill(gateway.process.pid, signal.SIGCONT)
        await load.more(20)
        await load.stop()
        for witness in seen_by:
            await witness.saw(load.acknowledged[load.acknowledged.index(witness.seen[0]) :])
            assert witness.connects == 1


async def test_clients_that_reset_their_connections_harm_nobody(nats: EmbeddedNats, market: Marketplace) -> None:
    async with (
        process(nats) as gateway,
        stress(market, "b1") as load,
        witnesses("b1", lambda: gateway.gateway) as seen_by,
    ):
        for turn in range(60):
            async with connected(gateway.gateway.url) as raw:
                if turn % 2:
                    await raw.send(request("/v1/events?channel=buyer:b1&cursor=earliest", "b1"))
                    await raw.read_until(b"retry")
                else:
                    await raw.send(handshake("b1"))
                    await raw.read_until(b"\r\n\r\n")
                    await raw.send_message(op="subscribe", channel="buyer:b1", cursor="earliest")
                    await raw.read_until(b"live")
                raw.reset()
        await load.more(20)
        await load.stop()
        for witness in seen_by:
            await witness.saw(load.acknowledged[load.acknowledged.index(witness.seen[0]) :])
            assert witness.connects == 1
