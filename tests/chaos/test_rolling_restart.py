"""A rolling restart of replicas under load: nothing is lost, and nobody comes back as a crowd.

Clients do as the protocol says: they come back when they were told to, to a replica that is ready, from where they
stood.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import pytest
import websockets

from services.local.embedded import EmbeddedNats
from tests.harness.events import event, fresh
from tests.harness.gateway import Gateway, GatewayProcess, Socket
from tests.harness.marketplace import Marketplace, marketplace
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = pytest.mark.chaos

# Long enough for the balancer to notice.
_GRACE = 0.5


@dataclass
class Balancer:
    """Sends each newcomer to the next replica that is ready, as of its last look."""

    processes: list[GatewayProcess]
    ready: list[Gateway] = field(default_factory=list)
    turns: "itertools.count[int]" = field(default_factory=itertools.count)

    async def watch(self) -> None:
        async with httpx.AsyncClient(timeout=2) as client:
            while True:
                found = []
                for process in self.processes:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await client.get(f"{process.gateway.url}/readyz")).status_code == 200:
                            found.append(process.gateway)
                self.ready = found
                await asyncio.sleep(0.1)

    def next(self) -> Gateway:
        return self.ready[next(self.turns) % len(self.ready)]


@dataclass
class Client:
    """One subscriber that resumes."""

    buyer: str
    balancer: Balancer
    # When it came back, in seconds of the run.
    returns: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    cursor: str = "earliest"

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, websockets.WebSocketException, IndexError):
                await self._stay(self.balancer.next())
            await asyncio.sleep(0.02)

    async def _stay(self, gateway: Gateway) -> None:
        address = gateway.url.replace("http", "ws", 1) + "/v1/ws"
        headers = bearer(self.buyer, "buyer")
        async with websockets.connect(address, additional_headers=headers) as raw:
            socket = Socket(raw)
            assert (await socket.read())["op"] == "welcome"
            self.returns.append(time.monotonic())
            await socket.send(op="resume", id=1, channels={f"buyer:{self.buyer}": self.cursor})
            leaves_at: float | None = None
            while leaves_at is None or time.monotonic() < leaves_at:
                patience = 60 if leaves_at is None else max(0.0, leaves_at - time.monotonic())
                try:
                    message = await socket.read(patience)
                except TimeoutError:
                    break
                except websockets.ConnectionClosed:
                    self.codes.append(raw.close_code or 0)
                    raise
                if message["op"] == "drain":
                    leaves_at = time.monotonic() + message["reconnect_in_ms"] / 1000
                elif message["op"] == "event":
                    self.events.append(message["event"]["id"])
                    self.cursor = message["cursor"]
                assert message["op"] != "gap"


async def publish(market: Marketplace, published: dict[str, list[str]], seconds: float, ending: asyncio.Event) -> None:
    """Events without a pause, to each in turn, until it is told to end; cancelled it could not say what is stored."""
    for buyer in itertools.cycle(list(published)):
        if ending.is_set():
            return
        document = event("ORDER_CREATED", buyer=buyer, order=fresh("order"))
        await market.publish(document)
        published[buyer].append(document["id"])
        await asyncio.sleep(seconds)


def busiest(returns: list[float], start: float, spread: float) -> float:
    """The most returns in any second since `start`, over the average of the spread's seconds."""
    since = [at - start for at in returns if at >= start]
    return max(Counter(map(int, since)).values()) / (len(since) / spread)


async def roll(nats_url: str, replicas: int, clients: int, spread: float) -> list[float]:
    """Restart all replicas, one after the other; of each the busiest unit's share of the average."""
    environment = {"A2A_DRAIN_GRACE_S": f"{_GRACE:g}", "A2A_DRAIN_SPREAD_S": f"{spread:g}"}
    processes = [GatewayProcess(nats_url, **environment) for _ in range(replicas)]
    balancer = Balancer(processes)
    published: dict[str, list[str]] = {f"b{number}": [] for number in range(clients)}
    shares: list[float] = []
    running: list[asyncio.Task[None]] = []
    async with marketplace(nats_url) as market, asyncio.TaskGroup() as tasks:
        try:
            await asyncio.gather(*(process.start() for process in processes))
            running.append(tasks.create_task(balancer.watch()))
            await until(lambda: len(balancer.ready) == replicas)
            everybody = [Client(buyer, balancer) for buyer in published]
            running += [tasks.create_task(client.run()) for client in everybody]
            await until(lambda: all(client.returns for client in everybody), seconds=60)
            ending = asyncio.Event()
            publishing = tasks.create_task(publish(market, published, 0.01, ending))
            running.append(publishing)
            for process in processes:
                begun = time.monotonic() + _GRACE
                assert await process.stop(spread + 30) == 0
                returns = sorted(at for client in everybody for at in client.returns)
                shares.append(busiest(returns, begun, spread))
                await process.start()
                await until(lambda: len(balancer.ready) == replicas, seconds=20)
            ending.set()
            await publishing

            def complete() -> bool:
                return all(len(client.events) >= len(published[client.buyer]) for client in everybody)

            await until(complete, seconds=30, what="every event has arrived")
            for client in everybody:
                assert client.events == published[client.buyer]
            assert {code for client in everybody for code in client.codes} <= {4200}
        finally:
            for task in running:
                task.cancel()
            for process in processes:
                process.kill()
    return shares


async def test_a_rolling_restart_loses_nothing_and_is_no_storm(nats: EmbeddedNats) -> None:
    shares = await roll(nats.url, replicas=2, clients=40, spread=4)
    # All at once would be 4. A busy machine's second more or less is one of few; the long run holds the promise of 1.5.
    assert max(shares) <= 3, shares


@pytest.mark.endurance
@pytest.mark.timeout(600)
async def test_a_full_rolling_restart_keeps_every_second_below_one_and_a_half_times_the_average(
    nats: EmbeddedNats,
) -> None:
    shares = await roll(nats.url, replicas=3, clients=900, spread=60)
    print(f"busiest second over the average, each replica: {', '.join(f'{share:.2f}' for share in shares)}")
    assert max(shares) <= 1.5
