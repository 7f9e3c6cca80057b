"""`python -m tests.load`: from publish to delivery over one WebSocket, on this machine.

Starts `services.local`, publishes at an even rate straight to NATS, and measures each event from the
moment it was due to its arrival at the client, so that a stall is not hidden by publishing less. This
is the smallest honest figure; many connections, replay storms and memory come with the full bench, a
later issue.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nats
from websockets.asyncio.client import ClientConnection, connect

from contracts.registry import REGISTRY
from tests.harness.events import event, fresh
from tests.harness.tokens import token
from tests.integration.local.system import RunningSystem

_PATIENCE_SECONDS = 10.0


@dataclass(slots=True)
class Run:
    """What is measured: when each event was due, and what became of it."""

    rate: float
    count: int
    due: dict[str, float] = field(default_factory=dict)
    # Seconds from due to acknowledged by JetStream, and to arrived at the client.
    stored: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which `share` of all values lie."""
    return sorted_values[min(int(share * len(sorted_values)), len(sorted_values) - 1)]


def table(run: Run) -> str:
    """Both columns, in milliseconds."""
    lines = [f"{run.count} events at {run.rate:g}/s, one WebSocket, {len(run.delivered)} delivered", ""]
    lines.append(f"{'ms from due':12} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}")
    for name, values in (("stored", sorted(run.stored)), ("delivered", sorted(run.delivered))):
        cells = [quantile(values, share) for share in (0.5, 0.9, 0.99, 1.0)] if values else []
        lines.append(f"{name:12} " + " ".join(f"{1000 * cell:8.2f}" for cell in cells))
    return "\n".join(lines)


async def publish(run: Run, nats_url: str, buyer: str) -> None:
    """Publish at the run's rate; one that is late does not delay those after it."""
    loop = asyncio.get_running_loop()
    client = await nats.connect(nats_url)
    stream = client.jetstream()

    async def one(due: float) -> None:
        document = event("ORDER_CREATED", buyer=buyer)
        publication = REGISTRY.publication(document)
        run.due[document["id"]] = due
        await stream.publish(publication.subject, publication.payload, headers=dict(publication.headers))
        run.stored.append(loop.time() - due)

    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(run.count):
            due = began + number / run.rate
            await asyncio.sleep(due - loop.time())
            tasks.create_task(one(due))
    await client.close()


async def receive(run: Run, socket: ClientConnection) -> None:
    """Note each arrival until all are there."""
    loop = asyncio.get_running_loop()
    while len(run.delivered) < run.count:
        message = json.loads(await socket.recv())
        if message["op"] == "event":
            run.delivered.append(loop.time() - run.due[message["event"]["id"]])


async def measure(run: Run, system: RunningSystem) -> bool:
    """Publish and receive; whether all arrived."""
    buyer = fresh("buyer")
    headers = {"Authorization": f"Bearer {token(buyer, 'buyer')}"}
    url = system.gateway.replace("http://", "ws://") + "/v1/ws"
    async with connect(url, additional_headers=headers) as socket:
        await socket.send(json.dumps({"op": "subscribe", "channel": f"buyer:{buyer}"}))
        while json.loads(await socket.recv())["op"] != "live":
            pass
        try:
            async with asyncio.timeout(run.count / run.rate + _PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
                tasks.create_task(receive(run, socket))
                tasks.create_task(publish(run, system.told["nats"], buyer))
        except TimeoutError:
            return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where events are missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--rate", type=float, default=200, help="events a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="how long (default: %(default)s)")
    options = parser.parse_args(arguments)
    run = Run(options.rate, max(1, round(options.rate * options.seconds)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, RunningSystem(Path(folder), "--no-traffic") as system:
        print(f"services.local ready after {time.monotonic() - began:.1f} s", flush=True)
        complete = asyncio.run(measure(run, system))
    print(table(run))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
