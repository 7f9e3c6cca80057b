"""The server as a process: its socket, its signals, its exit codes."""

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
import uvloop

from services.chassis.server import ACCEPTED_A_TURN, CannotListen, address, descriptors, listen
from tests.harness.waiting import until

DEADLINE_SECONDS = 20.0
COMMAND = (sys.executable, "-m", "tests.unit.chassis.server_app")


class Running:
    """One run of `server_app`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_SECONDS)).decode().strip()

    async def end(self) -> tuple[int, str, str]:
        """Exit code, and what else it wrote."""
        out, err = await asyncio.wait_for(self.process.communicate(), DEADLINE_SECONDS)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
async def start() -> AsyncIterator["Start"]:
    starting = Start()
    yield starting
    for running in starting.all:
        if running.process.returncode is None:
            running.process.kill()
            await running.process.communicate()


class Start:
    def __init__(self) -> None:
        self.all: list[Running] = []

    async def __call__(self, inherited: tuple[int, ...] = (), **environment: str) -> Running:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            env={**os.environ, **environment},
            pass_fds=inherited,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.all.append(Running(process))
        return self.all[-1]

    async def up(self) -> Running:
        running = await self()
        running.url = await running.line()
        await get(running.url, "/pid")
        return running


async def get(url: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
        return await client.get(url + path)


async def refuses(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_with_code_0(start: Start, number: signal.Signals) -> None:
    running = await start.up()
    running.process.send_signal(number)
    assert await running.end() == (0, "told of the signal\nended in order\n", "")


async def test_a_service_that_takes_its_leave_serves_on_until_a_second_signal(start: Start) -> None:
    running = await start(LINGERS="1")
    running.url = await running.line()
    await get(running.url, "/pid")
    running.process.send_signal(signal.SIGTERM)
    assert await running.line() == "told of the signal"
    assert (await get(running.url, "/pid")).status_code == 200
    running.process.send_signal(signal.SIGTERM)
    assert await running.end() == (0, "ended in order\n", "")


async def test_a_request_that_does_not_end_is_given_its_time_and_no_more(start: Start) -> None:
    running = await start.up()
    with pytest.raises(httpx.HTTPError):
        (await get(running.url, "/never")).raise_for_status()
    code, out, _ = await running.end()
    assert (code, out) == (0, "told of the signal\nended in order\n")


async def test_nobody_new_is_let_in_while_the_last_requests_are_finished(start: Start) -> None:
    running = await start(GRACE="600")
    running.url = await running.line()
    host, _, port = running.url.removeprefix("http://").rpartition(":")
    last = asyncio.create_task(get(running.url, "/never"))
    assert await running.line() == "told of the signal"
    await until(lambda: refuses(host, int(port)), what="no more connections")
    assert running.process.returncode is None
    last.cancel()


async def test_it_is_told_of_one_signal_though_several_come(start: Start) -> None:
    running = await start.up()
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
        running.process.send_signal(number)
    code, out, _ = await running.end()
    assert code == 0
    assert out.count("told of the signal") == 1


async def test_an_app_that_does_not_start_is_no_success(start: Start) -> None:
    running = await start(BROKEN="1")
    code, _, told = await running.end()
    assert code == 3
    assert "does not start" in told


async def test_a_taken_port_is_one_line_that_names_the_setting(start: Start) -> None:
    with listen("127.0.0.1", 0) as holder:
        port = holder.getsockname()[1]
        code, out, told = await (await start(A2A_HTTP_PORT=str(port))).end()
    assert (code, out) == (2, "")
    assert told == f"error: A2A_HTTP_PORT: 127.0.0.1:{port} is taken; stop what listens there or choose another port\n"


async def test_a_socket_of_the_supervisor_is_served_and_stays_open_over_a_restart(start: Start) -> None:
    with listen("127.0.0.1", 0) as held:
        number = held.fileno()
        pids = []
        for _ in range(2):
            running = await start((number,), A2A_HTTP_FD=str(number))
            assert await running.line() == address(held)
            pids.append((await get(address(held), "/pid")).text)
            running.process.terminate()
            assert (await running.end())[0] == 0
        assert pids[0] != pids[1]


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no such host.example", 0), ("127.0.0.1", 99999)])
def test_an_address_that_is_not_ours_is_told_in_one_line(host: str, port: int) -> None:
    with pytest.raises(CannotListen) as refused:
        listen(host, port)
    assert str(refused.value).startswith("A2A_HTTP_HOST, A2A_HTTP_PORT: ")
    assert "\n" not in str(refused.value)


def test_a_number_that_is_no_socket_is_told_as_such(tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "file"), "w") as file, pytest.raises(CannotListen, match="A2A_HTTP_FD"):
        listen("127.0.0.1", 0, file.fileno())
    with pytest.raises(CannotListen, match="A2A_HTTP_FD"):
        listen("127.0.0.1", 0, 9999)


def test_an_address_is_a_url_for_both_families() -> None:
    with listen("127.0.0.1", 0) as four:
        assert address(four) == f"http://127.0.0.1:{four.getsockname()[1]}"
    if socket.has_ipv6:
        with listen("::1", 0) as six:
            assert address(six) == f"http://[::1]:{six.getsockname()[1]}"


def test_a_connection_is_served_without_waiting_to_fill_packets() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_who_comes_at_once_is_accepted_in_batches() -> None:
    """One a turn of the loop costs each of a storm half as much again (ADR 0044)."""
    count = 4 * ACCEPTED_A_TURN
    turn, accepted = 0, Counter[int]()

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted[turn] += 1
            transport.close()

    async def storm() -> None:
        nonlocal turn
        listener = listen("127.0.0.1", 0)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Connection, sock=one) for one in descriptors(listener)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while accepted.total() < count:
                turn += 1
                await asyncio.sleep(0)
        for client in clients:
            client.close()
        for server in servers:
            server.close()

    uvloop.run(storm())
    assert accepted.total() == count
    assert max(accepted.values()) == ACCEPTED_A_TURN
