"""REPLAY: buyers read their own events from far back in a long stream while others publish to it.

Wild-card reads stall the writes of the stream they read. What is measured is how long a publish then takes
from the moment it was due to its acknowledgement, and whether any buyer was refused.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import nats

from tests.load.fan import Fan, measure
from tests.load.figures import Figures, quantile
from tests.load.natsline import NatsLine, body
from tests.load.peers.gateway import Gateway, metrics
from tests.load.peers.peer import Place
from tests.load.tokens import write_headers
from tests.load.workloads import Sizes

_RATE = 500.0
# Two events of each order: as many subjects as half the events.
_EVENTS_OF_AN_ORDER = 2
_LONGEST_SECONDS = 120
_PUBLISH_SECONDS = 10.0
_PROBLEMS = "a2a_problems_total"


def run(buyers: int, sizes: Sizes, place: Place) -> Figures:
    """One run."""
    everyone, events = sizes.replay_buyers, sizes.replay_events
    orders = events // _EVENTS_OF_AN_ORDER // everyone * everyone
    events = orders * _EVENTS_OF_AN_ORDER

    def subject_of(index: int) -> str:
        return f"market.i{index % orders}.b{index % everyone}.n.order.o{index % orders}"

    def prepare(line: NatsLine) -> int:
        return line.preload(subject_of, events)

    with ExitStack() as stack:
        running = Gateway(authorized=False, prepare=prepare).start(stack, place)
        headers = write_headers(place.folder / "headers", [f"b{number}" for number in range(buyers)], "buyer")
        cursor = f"MARKET.{running.details['epoch']}.{running.prepared}"
        said = json.dumps({"op": "subscribe", "channel": "buyer:b%d", "cursor": cursor})
        arguments = ["--port", str(running.port), "-n", str(buyers), "--path", "/v1/ws", "--send", said]
        arguments += ["--header-file", str(headers), "--order", "cursor", "--step", str(everyone), "--settle", "0"]
        arguments += ["--expect-each", str(events // everyone), "--max-time", str(_LONGEST_SECONDS)]
        before = metrics(running)

        def publishing(fan: Fan) -> Mapping[str, float]:
            ended = lambda: fan.process.popen.poll() is not None  # noqa: E731
            return asyncio.run(publish(f"nats://127.0.0.1:{running.nats_port}", ended))

        measured = measure(place.binary, arguments, running.servers, place.cores, place.folder, publishing)
        problems = _problems(metrics(running)) - _problems(before)
    found = {name: measured.number(name) for name in ("errors", "dropped", "disordered", "missing", "caught_up_s")}
    return {
        **found,
        **measured.found,
        "refused": problems,
        "incomplete": buyers - measured.number("caught_up"),
        "core_s": measured.after.cost_since(measured.before),
    }


def _problems(samples: Mapping[str, float]) -> float:
    return sum(value for name, value in samples.items() if name.startswith(_PROBLEMS))


async def publish(nats_url: str, ended: Callable[[], bool]) -> dict[str, float]:
    """Publish at an even rate until `ended`; one that is late does not delay those after it."""
    client = await nats.connect(nats_url)
    stream = client.jetstream()
    milliseconds: list[float] = []

    async def one(number: int, due: float) -> None:
        await stream.publish("market.live.other.n.order.live", body(number), timeout=_PUBLISH_SECONDS)
        milliseconds.append((time.monotonic() - due) * 1000)

    began, count = time.monotonic(), 0
    async with asyncio.TaskGroup() as tasks:
        while not ended():
            due = began + count / _RATE
            await asyncio.sleep(due - time.monotonic())
            count += 1
            tasks.create_task(one(count, due))
    await client.close()
    return {
        "publish_p50_ms": quantile(milliseconds, 0.5),
        "publish_p99_ms": quantile(milliseconds, 0.99),
        "publish_max_ms": quantile(milliseconds, 1),
        "published": len(milliseconds),
    }
