"""`python -m services.ingest` as a process: how it starts, how it refuses to, and that it finishes what it began."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.envelope import BATCH_CONTENT_TYPE
from services.chassis.server import address, listen
from services.local.embedded import EmbeddedNats
from tests.harness.events import event, fresh
from tests.harness.streams import end_of, looking_at
from tests.harness.tokens import SECRET, bearer
from tests.harness.waiting import until

ROOT = Path(__file__).parents[3]


async def start(settings: dict[str, str], inherited: tuple[int, ...] = ()) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("A2A_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.ingest",
        env={**kept, "PYTHONPATH": str(ROOT), "A2A_JWT_HS256_SECRET": SECRET, **settings},
        stderr=asyncio.subprocess.PIPE,
        pass_fds=inherited,
    )


async def refusal(settings: dict[str, str]) -> str:
    """The last line on standard error of a process that ends with exit code 2."""
    process = await start(settings)
    _, told = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2, told.decode()
    assert b"Traceback" not in told or b'"event": "stopping"' in told
    return told.decode().splitlines()[-1]


@asynccontextmanager
async def running(settings: dict[str, str]) -> Any:
    """The process and its URL; it is dead after the block."""
    listener = listen("127.0.0.1", 0)
    process = await start({**settings, "A2A_HTTP_FD": str(listener.fileno())}, (listener.fileno(),))
    url = address(listener)
    listener.close()  # the process's own is enough: once that is closed, nobody can connect
    try:
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"A2A_JWT_HS256_SECRET": ""}, "error: A2A_JWT_HS256_SECRET"),
        ({"A2A_NATS_URL": "http://x"}, "error: A2A_NATS_URL: must be like nats://"),
        ({"A2A_BATCH_MAX_BYTES": "many"}, "error: A2A_BATCH_MAX_BYTES"),
        ({"A2A_JWT_PUBLIC_KEY": "/nowhere.pem"}, "error: A2A_JWT_PUBLIC_KEY"),
        ({"A2A_JWT_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----"}, "error: A2A_JWT_PUBLIC_KEY"),
    ],
)
async def test_a_wrong_setting_is_told_in_one_line_that_names_it(settings: dict[str, str], told: str) -> None:
    assert (await refusal(settings)).startswith(told)


async def test_a_way_to_verify_tokens_must_be_set() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.ingest",
        env={**{n: v for n, v in os.environ.items() if not n.startswith("A2A_")}, "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == 2
    assert told.decode() == "error: set one of A2A_JWT_HS256_SECRET, A2A_JWT_PUBLIC_KEY, A2A_JWKS_URL\n"


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert f"127.0.0.1:{port} is taken" in await refusal({"A2A_HTTP_PORT": str(port)})


async def test_a_server_without_room_for_the_stream_is_told_and_ends_it(make_nats: Callable[..., EmbeddedNats]) -> None:
    nats = make_nats("max_file_store: 16MB").start()
    told = await refusal({"A2A_NATS_URL": nats.url})
    assert told.startswith("error: stream MARKET reserves 8192 MiB")


async def test_what_is_under_way_at_sigterm_is_stored_and_answered(fresh_nats: EmbeddedNats) -> None:
    settings = {"A2A_NATS_URL": fresh_nats.url, "A2A_MARKET_MAX_BYTES": str(64 * 1024**2)}
    ids: dict[str, Any] = {name: fresh(name) for name in ("intent", "buyer", "node", "order")}
    batch = [event("ORDER_CREATED", **ids) for _ in range(500)]
    headers = {**bearer("p", "service"), "Content-Type": BATCH_CONTENT_TYPE}
    async with (
        running(settings) as (process, url),
        looking_at(fresh_nats.url) as nats,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http,
    ):

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await until(is_ready)
        answering = asyncio.create_task(http.post("/v1/events", json=batch))

        async def has_begun() -> bool:
            return (await end_of(nats)).messages > 0

        await until(has_begun)
        process.send_signal(signal.SIGTERM)
        assert not answering.done()
        answer = await answering
        assert (answer.status_code, len(answer.json())) == (200, 500)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        with pytest.raises(httpx.TransportError):
            await http.get("/livez")


async def test_sigterm_ends_it_while_nats_is_away() -> None:
    async with running({"A2A_NATS_URL": "nats://127.0.0.1:1"}) as (process, url), httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/livez")).status_code == 200
        assert "127.0.0.1:1" in (await http.get(f"{url}/readyz")).json()["failing"]["nats"]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
