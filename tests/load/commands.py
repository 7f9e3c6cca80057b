"""COMMANDS: a publisher takes commands over HTTP, each of which is one append that expects its aggregate's last event.

Here the service under test has the servers' core to itself; the broker shares the other with the client. Half of the
commands begin an aggregate, half change one of those. Measured are the most that it takes, and how long one takes
where 500 a second are offered, from the moment it was due; then how soon it answers after it was killed.
"""

import asyncio
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from services.local.embedded import free_port
from tests.load.figures import Figures, quantile
from tests.load.httpline import HttpLine, document
from tests.load.machine import Cores
from tests.load.natsline import NatsLine
from tests.load.peers.gateway import MARKET_BYTES, declare
from tests.load.peers.nats import start_broker
from tests.load.peers.peer import Place, serve
from tests.load.process import Process, ProcessFailed, cpu_seconds
from tests.load.tokens import SECRET, header
from tests.load.workloads import Sizes

RATE = 500.0
_CONNECTIONS = 32
_WARM_COMMANDS = 300
_READY_SECONDS = 30.0
_CAUGHT_UP_SECONDS = 60.0
# How old the service's own figure of its lag may be.
_SURVEY_SECONDS = 2.5
_LAG = "a2a_reactions_lag{"
# Events of others that are in the stream already: two of each order.
_EVENTS_OF_AN_ORDER = 2
_BUYERS = 500
# Signing one for each request would cost the client more than the request.
_TOKENS = {sub: header(sub, "buyer") for sub in (f"b{number}" for number in range(50))}
_SETTINGS = {
    "A2A_JWT_HS256_SECRET": SECRET,
    "A2A_MARKET_MAX_BYTES": str(MARKET_BYTES),
    "A2A_LOG_LEVEL": "warning",
}


@dataclass(slots=True)
class Client:
    """Sends commands, and knows what they made."""

    port: int
    idle: list[HttpLine] = field(default_factory=list)
    # Intents that are still to be cancelled.
    made: list[str] = field(default_factory=list)
    sent: int = 0
    errors: int = 0

    async def one(self) -> None:
        """The next command on a connection of its own."""
        line = self.idle.pop() if self.idle else await HttpLine.open(self.port)
        number, self.sent = self.sent, self.sent + 1
        owner = f"b{number % len(_TOKENS)}"
        path, said = "/v1/intents", b'{"title":"200 hours of GPU time"}'
        cancels = number % 2 == 1 and bool(self.made)
        if cancels:
            owner, intent = self.made.pop(0).split(" ")
            path, said = f"/v1/intents/{intent}/cancel", b"{}"
        headers = f"{_TOKENS[owner]}\r\nIdempotency-Key: k{number}\r\n"
        status, body = await line.ask("POST", path, headers, said)
        if status != 201:
            self.errors += 1
        elif not cancels:
            self.made.append(f"{owner} {document(body)['id']}")
        self.idle.append(line)

    async def saturated(self, ends: Callable[[int], bool]) -> int:
        """As many as the service takes with so many in flight; how many."""
        done = 0

        async def lane() -> None:
            nonlocal done
            while not ends(done):
                await self.one()
                done += 1

        await asyncio.gather(*(lane() for _ in range(_CONNECTIONS)))
        return done

    async def paced(self, seconds: float) -> list[float]:
        """So many a second, whatever becomes of them; milliseconds from the moment each was due."""
        took: list[float] = []

        async def timed(due: float) -> None:
            await self.one()
            took.append((time.monotonic() - due) * 1000)

        began, count = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while count < RATE * seconds:
                due = began + count / RATE
                await asyncio.sleep(due - time.monotonic())
                count += 1
                tasks.create_task(timed(due))
        return took

    def close(self) -> None:
        """Close every connection."""
        for line in self.idle:
            line.close()
        self.idle.clear()


def run(events: int, sizes: Sizes, place: Place) -> Figures:
    """One run, on a stream of `events` that are somebody else's."""
    with ExitStack() as stack:
        beside = replace(place, cores=Cores(place.cores.client, place.cores.client))
        broker_port, broker = start_broker(stack, beside)
        nats_url = f"nats://127.0.0.1:{broker_port}"
        asyncio.run(declare(nats_url))
        with NatsLine(broker_port) as line:
            line.preload(_subject, events)
        port = free_port()
        service = _start(stack, place, nats_url, port, "deals")
        return asyncio.run(_measured(stack, place, sizes, (broker, service), nats_url, port))


def _subject(index: int) -> str:
    order = index // _EVENTS_OF_AN_ORDER
    return f"market.i{order}.b{order % _BUYERS}.n.order.o{order}"


def _start(stack: ExitStack, place: Place, nats_url: str, port: int, log: str) -> Process:
    environment = {**_SETTINGS, "A2A_NATS_URL": nats_url, "A2A_HTTP_PORT": str(port)}
    service = serve(stack, place, [sys.executable, "-m", "services.deals"], log, port, **environment)
    deadline = time.monotonic() + _READY_SECONDS
    while not _answers(f"http://127.0.0.1:{port}/readyz"):
        if time.monotonic() > deadline:
            raise service.failure("is not ready")
        time.sleep(0.02)
    return service


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # this machine
            return bool(answer.status == 200)
    except OSError:
        return False


async def _measured(
    stack: ExitStack, place: Place, sizes: Sizes, servers: tuple[Process, Process], nats_url: str, port: int
) -> Figures:
    broker, service = servers
    client = Client(port)
    await client.saturated(lambda done: done >= _WARM_COMMANDS)
    before, began = cpu_seconds(service.pids), time.monotonic()
    ends = began + sizes.seconds
    done = await client.saturated(lambda _: time.monotonic() >= ends)
    seconds, cost = time.monotonic() - began, cpu_seconds(service.pids) - before
    client.close()  # the service would, before it has caught up
    behind = await asyncio.to_thread(_caught_up, port)
    took = await client.paced(sizes.seconds)
    owner, intent = client.made[0].split(" ")
    client.close()
    restart = await asyncio.to_thread(_restarted, stack, place, service, nats_url, port, owner, intent)
    return {
        "commands_per_s": done / seconds,
        "command_us": cost / done * 1e6,
        "p50_ms": quantile(took, 0.5),
        "p99_ms": quantile(took, 0.99),
        "max_ms": quantile(took, 1),
        "restart_s": restart,
        "reactions_behind_s": behind,
        "errors": client.errors,
        "broker_s": cpu_seconds(broker.pids),
    }


def _caught_up(port: int) -> float:
    """Seconds until the service has reacted to what it was told, so that its latency is not that of its own work."""
    began = time.monotonic()
    time.sleep(_SURVEY_SECONDS)
    while time.monotonic() < began + _CAUGHT_UP_SECONDS:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        if not any(line.startswith(_LAG) and float(line.rpartition(" ")[2]) for line in lines):
            break
        time.sleep(0.2)
    return time.monotonic() - began


def _restarted(
    stack: ExitStack, place: Place, service: Process, nats_url: str, port: int, owner: str, intent: str
) -> float:
    """Seconds from the start of a new process, after the other was killed, to its answer to a query."""
    service.popen.kill()
    service.popen.wait()
    began = time.monotonic()
    environment = {**_SETTINGS, "A2A_NATS_URL": nats_url, "A2A_HTTP_PORT": str(port)}
    command = [sys.executable, "-m", "services.deals"]
    again = Process(command, core=place.cores.server, log=place.folder / "again.log", environment=environment)
    stack.callback(again.stop)
    name, _, value = header(owner, "buyer").partition(": ")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/intents/{intent}", headers={name: value})
    while time.monotonic() < began + _READY_SECONDS:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return time.monotonic() - began
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise ProcessFailed(f"the query is answered {error.code}") from error
        except OSError:
            pass
        time.sleep(0.01)
    raise again.failure("does not answer")
