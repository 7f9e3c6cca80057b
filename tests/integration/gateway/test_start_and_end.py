"""A replica's own process: what it says when it cannot begin, and how it ends."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import pytest

from services.local.embedded import EmbeddedNats, free_port
from tests.harness.gateway import GatewayProcess
from tests.harness.marketplace import Marketplace
from tests.harness.raw import connected, handshake, request
from tests.harness.tokens import SECRET
from tests.harness.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A process that begins, on a busy machine.
_SECONDS = 60.0


def begun(**environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("A2A_")}
    return subprocess.Popen(
        [sys.executable, "-m", "services.gateway"],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(seconds: float = _SECONDS, **environment: str) -> tuple[int, list[str], str]:
    """Exit code, the lines that are no log, and standard output."""
    process = begun(**environment)
    try:
        out, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    return process.returncode, [line for line in errors.splitlines() if not line.startswith("{")], out


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "A2A_JWT_HS256_SECRET"),
        ({"A2A_JWT_HS256_SECRET": ""}, "A2A_JWT_HS256_SECRET"),
        ({"A2A_NATS_URL": "http://x"}, "A2A_NATS_URL"),
        ({"A2A_HTTP_PORT": "70000"}, "A2A_HTTP_PORT"),
        ({"A2A_LOG_BYTES": "1"}, "A2A_LOG_BYTES"),
        ({"A2A_HEARTBEAT_S": "soon"}, "A2A_HEARTBEAT_S"),
        ({"A2A_REGION": "Up North"}, "A2A_REGION"),
        ({"A2A_JWT_PUBLIC_KEY": "/nowhere.pem"}, "A2A_JWT_PUBLIC_KEY"),
        ({"A2A_JWT_PUBLIC_KEY": "no PEM"}, "A2A_JWT_PUBLIC_KEY"),
    ],
)
async def test_a_wrong_setting_is_named_in_one_line(environment: dict[str, str], named: str) -> None:
    code, lines, _ = await asyncio.to_thread(run, _SECONDS, **environment)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert named in lines[0]


async def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, lines, _ = await asyncio.to_thread(run, A2A_JWT_HS256_SECRET=SECRET, A2A_HTTP_PORT=port)
    assert code == 2
    assert len(lines) == 1
    assert "A2A_HTTP_PORT" in lines[0]
    assert port in lines[0]


async def test_a_stream_too_large_for_the_server_is_told_with_what_is_free(
    make_nats: Callable[..., EmbeddedNats],
) -> None:
    nats = make_nats("max_file_store: 64MB").start()
    code, lines, _ = await asyncio.to_thread(
        run, A2A_JWT_HS256_SECRET=SECRET, A2A_NATS_URL=nats.url, A2A_MARKET_MAX_BYTES=str(10**9), A2A_HTTP_PORT="0"
    )
    assert code == 2
    assert len(lines) == 1
    assert "A2A_MARKET_MAX_BYTES" in lines[0]
    assert " MiB free" in lines[0]


async def test_a_gateway_started_before_nats_is_alive_and_becomes_ready(make_nats: Callable[..., EmbeddedNats]) -> None:
    nats = make_nats()
    process = GatewayProcess(nats.url)
    starting = asyncio.create_task(process.start())
    try:
        async with process.gateway.http as client:

            async def alive() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/livez")).status_code == 200
                return False

            await until(alive, seconds=_SECONDS, what="the gateway is alive")
            assert (await client.get("/readyz")).status_code == 503
            nats.start()
            await starting
            assert await process.stop() == 0
    finally:
        starting.cancel()
        process.kill()


async def test_a_gateway_that_waits_for_nats_ends_in_order() -> None:
    process = GatewayProcess(f"nats://127.0.0.1:{free_port()}")
    starting = asyncio.create_task(process.start())
    try:
        async with process.gateway.http as client:

            async def alive() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/livez")).status_code == 200
                return False

            await until(alive, seconds=_SECONDS, what="the gateway is alive")
        assert await process.stop() == 0
    finally:
        starting.cancel()
        process.kill()


async def test_sigterm_tells_every_client_and_ends_in_time_though_some_do_not_answer(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    process = GatewayProcess(fresh_nats.url)
    try:
        gateway = await process.start()
        async with (
            gateway.websocket("b1") as polite,
            gateway.events("channel=buyer:b1") as blocks,
            connected(gateway.url) as mute,
            connected(gateway.url, receive_bytes=4096) as stuck,
            connected(gateway.url) as polling,
            connected(gateway.url) as idle,
        ):
            await polite.subscribe("buyer:b1")
            await blocks.read_until("live")
            await mute.send(handshake("b1"))
            await mute.read_until(b"\r\n\r\n")
            await stuck.send(request("/v1/events?channel=buyer:b1"))
            await stuck.read_until(b"event: live")
            await polling.send(request("/v1/channels/buyer:b1/events?wait=30&after=" + await market.cursor()))
            await idle.send(b"GET /v1/ev")
            await market.orders(40, buyer="b1", padding=200_000)
            begun_at = time.monotonic()
            stopping = asyncio.create_task(process.stop())
            messages = await polite.read_until("drain")
            assert messages[-1].keys() == {"op", "reconnect_in_ms"}
            assert await polite.closed() == 4200
            told = await blocks.read_until("drain")
            assert "retry" in told[-2] or "retry" in told[-1]
            assert await blocks.read() == {}
            assert await stopping == 0
            assert time.monotonic() - begun_at < 15  # half as long as the poll would have waited
    finally:
        process.kill()


async def test_a_replica_can_begin_again_on_the_port_it_left(fresh_nats: EmbeddedNats) -> None:
    process = GatewayProcess(fresh_nats.url)
    try:
        await process.start()
        assert await process.stop() == 0
        await process.start()
    finally:
        process.kill()
