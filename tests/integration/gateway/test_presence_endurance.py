"""Presence with its defaults, in numbers, and against the clock: what `test_presence.py` promises in small.

Each test prints its figures (`task endurance -- -s`).
"""

import asyncio
import contextlib
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from msgspec import Raw

from contracts.presence import NULL, Member, Note, decode_page, encode_note, encode_page
from services.chassis.telemetry import logger
from services.gateway.bus.leases import Leases
from services.gateway.bus.signals import SignalLine
from services.gateway.bus.site import Site
from services.gateway.core.membership import Membership
from services.local.embedded import EmbeddedNats
from tests.harness.attendees import Attendee, attending, settled
from tests.harness.core import World, principal
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, GatewayProcess, Socket
from tests.harness.line import Line
from tests.harness.marketplace import Marketplace
from tests.harness.people import Person
from tests.harness.tokens import bearer
from tests.harness.waiting import until

pytestmark = [pytest.mark.endurance, pytest.mark.asyncio(loop_scope="module")]
MANY = 5000


@contextlib.asynccontextmanager
async def process(nats_url: str, **environment: str) -> AsyncIterator[GatewayProcess]:
    """A replica with the defaults of presence, for any number of connections."""
    found = GatewayProcess(nats_url, A2A_MAX_CONNECTIONS_PER_PRINCIPAL="100000", **environment)
    try:
        await found.start()
        yield found
    finally:
        found.kill()


async def deal(market: Marketplace) -> str:
    order = fresh("order")
    await market.orders(1, order=order, buyer="b1", node="n1")
    return f"order:{order}"


async def three(stack: contextlib.AsyncExitStack, gateway: Gateway, channel: str, name: str) -> list[Attendee]:
    """Three clients that have entered."""
    people = [await stack.enter_async_context(attending(gateway, f"{name}{n}", "admin", channel)) for n in range(3)]
    for person in people:
        await person.enter()
    return people


async def test_a_killed_replicas_members_are_gone_within_twenty_seconds(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        process(fresh_nats.url) as first,
        process(fresh_nats.url) as second,
        process(fresh_nats.url) as third,
        contextlib.AsyncExitStack() as stack,
        attending(third.gateway, "root", "admin", channel) as elsewhere,
        third.gateway.http as http,
    ):
        here = await three(stack, first.gateway, channel, "a")
        await three(stack, second.gateway, channel, "b")
        for person in (*here, elsewhere):
            await person.sees("a0", "a1", "a2", "b0", "b1", "b2")
        second.kill()
        killed_at = time.monotonic()
        # Who comes after the kill is told the same.
        late = await stack.enter_async_context(attending(third.gateway, "late", "admin", channel))
        assert set(late.members or ()) == {"a0", "a1", "a2", "b0", "b1", "b2"}
        for person in (*here, elsewhere, late):
            await person.sees("a0", "a1", "a2", seconds=25)
        assert await paged(http, channel) == 3
        took = time.monotonic() - killed_at
        print(f"\nkilled: gone everywhere after {took:.1f} s")
        assert 10 < took <= 20


async def test_a_replica_cut_off_for_fifteen_seconds_is_no_news_and_for_thirty_is_told_once(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        Line(fresh_nats.port).open() as line,
        process(fresh_nats.url) as first,
        process(line.url) as second,
        contextlib.AsyncExitStack() as stack,
    ):
        here = await three(stack, first.gateway, channel, "a")
        there = await three(stack, second.gateway, channel, "b")
        everybody = ("a0", "a1", "a2", "b0", "b1", "b2")
        for person in (*here, *there):
            await person.sees(*everybody)
        before = {person: len(person.told) for person in (*here, *there)}
        line.sever()
        await asyncio.sleep(15)
        line.heal()
        await settled(*here, *there, seconds=25)
        assert {person: len(person.told) for person in (*here, *there)} == before
        line.sever()
        for person in here:
            await person.sees("a0", "a1", "a2", seconds=25)
        line.heal()
        for person in here:
            await person.sees(*everybody)
        await settled(*here, *there, seconds=25)
        for person in here:
            told = sorted(person.told[before[person] :])
            assert told == [(what, sub) for what in ("join", "leave") for sub in ("b0", "b1", "b2")]
        for person in there:
            assert len(person.told) == before[person]


async def test_typing_between_replicas_takes_ten_milliseconds_at_most(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    channel = await deal(market)
    async with (
        process(fresh_nats.url, A2A_TYPING_RATE="1000", A2A_CLIENT_RATE="1000") as first,
        process(fresh_nats.url) as second,
        first.gateway.websocket("b1") as buyer,
        second.gateway.websocket("n1", "node") as node,
    ):
        for socket in (buyer, node):
            await socket.subscribe(channel)
        took = []
        for number in range(2000):
            sent_at = time.perf_counter()
            await buyer.send(op="signal", channel=channel, kind="typing", data=number)
            assert (await node.read())["data"] == number
            took.append(time.perf_counter() - sent_at)
            await asyncio.sleep(0.002)
        took.sort()
        half, most = took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000
        print(f"\ntyping between replicas: p50 {half:.2f} ms, p99 {most:.2f} ms, max {took[-1] * 1000:.2f} ms")
        assert most <= 10


async def figure(http: httpx.AsyncClient, name: str) -> float:
    """One figure of `/metrics`."""
    text = (await http.get("/metrics")).text
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


async def listed(socket: Socket, number: int) -> list[int]:
    """Subscribe is under way: wait until so many are known; how many each message of the list had."""
    known: set[str] = set()
    pages: list[int] = []
    while len(known) < number:
        message = await socket.read(20)
        if "members" in message:
            pages.append(len(message["members"]))
        known.update(one["sub"] for one in (*message.get("members", ()), *message.get("joins", ())))
    return pages


async def paged(http: httpx.AsyncClient, channel: str) -> int:
    """How many the pages over HTTP have in all."""
    query, found = {"limit": "1000"}, 0
    while True:
        page = (
            await http.get(f"/v1/channels/{channel}/presence", params=query, headers=bearer("root", "admin"))
        ).json()
        found += len(page["members"])
        if "next" not in page:
            return found
        query["after"] = page["next"]


async def join_seen(socket: Socket, sub: str) -> int:
    """Wait until that one's join is told; the bytes of the message."""
    while True:
        text = await asyncio.wait_for(socket.raw.recv(), 20)
        joins = json.loads(text).get("joins", ())
        if [one["sub"] for one in joins] == [sub]:
            return len(text)


async def test_five_thousand_members_of_one_channel(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    """Each is a connection; the watchers among them count the bytes of one more join."""
    channel = await deal(market)
    async with (
        process(fresh_nats.url) as first,
        process(fresh_nats.url) as second,
        contextlib.AsyncExitStack() as stack,
        first.gateway.http as http,
    ):
        before = await figure(http, "process_resident_memory_bytes")

        async def come(number: int, **more: bool) -> Socket:
            gateway = (first, second)[number % 2].gateway
            socket = await stack.enter_async_context(gateway.websocket(f"m{number}", "admin"))
            await socket.send(op="subscribe", channel=channel, **more)
            return socket

        async def enter(number: int) -> None:
            socket = await come(number)
            await socket.send(op="presence", channel=channel, action="enter", data={"n": number})

        for start in range(0, MANY, 50):
            await asyncio.gather(*(enter(n) for n in range(start, start + 50)))
        watchers = []
        for number in range(MANY, MANY + 50):
            began = time.monotonic()
            watchers.append(await come(number, presence=True))
            pages = await listed(watchers[-1], MANY)
            if number < MANY + 4:
                print(
                    f"\nlist of {MANY}: {len(pages)} messages, {max(pages)} at most, {time.monotonic() - began:.2f} s"
                )
            assert max(pages) <= 256
        await asyncio.sleep(1)
        late, began = await come(10**6), time.monotonic()
        await late.send(op="presence", channel=channel, action="enter", data={"n": "late"})
        sizes = {await join_seen(socket, "m1000000") for socket in watchers}
        print(f"a join: one message of {sizes} bytes to each watcher, all within {time.monotonic() - began:.2f} s")
        assert max(sizes) < 200
        assert await paged(http, channel) == MANY + 1
        resident = await figure(http, "process_resident_memory_bytes") - before
        print(f"memory for {MANY // 2} connections and {MANY + 1} members: {resident / 2**20:.0f} MiB a replica")


async def test_a_thousand_members_on_a_replica_cost_one_renewal(market: Marketplace, fresh_nats: EmbeddedNats) -> None:
    async with (
        process(fresh_nats.url, A2A_CLIENT_RATE="1000", A2A_CLIENT_BURST="1000") as gateway,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(10):
            socket = await stack.enter_async_context(gateway.gateway.websocket(f"root{number}", "admin"))
            for channel in (f"order:o{n}" for n in range(100)):
                await socket.subscribe(channel)
                await socket.send(op="presence", channel=channel, action="enter")
        async with gateway.gateway.http as http:

            async def all_here() -> bool:
                return await figure(http, "a2a_presence_members") == 1000

            await until(all_here, what="1000 members are here")
        await asyncio.sleep(2)
        written: list[str] = []

        async def note(message: object) -> None:
            written.append(message.subject.split(".")[2])  # type: ignore[attr-defined]

        await market.client.subscribe("$KV.PRESENCE.>", cb=note)
        await asyncio.sleep(15)
        print(f"\n1000 members in 100 channels: {len(written)} writes in 15 s: {set(written)}")
        assert set(written) == {"lease"}
        assert 4 <= len(written) <= 6


async def test_what_nobody_here_wants_costs_microseconds_and_what_is_watched_kilobytes() -> None:
    """In this process, without NATS."""
    world = World()
    presence, site = world.replica.presence, Site()
    line = SignalLine(site, presence.signals, presence.replica)
    leases = Leases(site, presence, logger("test"), lease_seconds=10, renew_seconds=3, declare=None)
    for number in range(5000):
        Person(world, principal("b1", "buyer")).ask(op="subscribe", channel=f"order:p{number}")
    payload = encode_note(Note("n1", "node", "typing", 0, NULL))
    signal = timed(lambda: line._arrived(b"gateway.signal.order.nobody.other", b"", b"", payload), 100_000)
    key = timed(lambda: leases._seen("$KV.PRESENCE.m.order.nobody.other.0", 1, True), 100_000)
    page = encode_page([Member(f"member{n}", "buyer", 1, Raw(b'{"n":%d}' % n)) for n in range(256)])
    membership = Membership()
    again = timed(lambda: membership.put(("r1", 0), decode_page(page)), 1000)
    tracemalloc.start()
    watched = []
    for number in range(10_000):
        found = Membership()
        for replica in ("r1", "r2"):
            found.put((replica, 0), decode_page(encode_page([Member(f"{replica}_{number}", "buyer", 1, NULL)])))
        found.settle()
        watched.append(found)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"\na signal {signal:.1f} us, a key {key:.1f} us, a page of 256 again {again / 1000:.2f} ms")
    print(f"members of 10,000 watched channels, two in each: {size / 2**20:.0f} MiB")
    assert max(signal, key) < 100


def timed(call: Callable[[], object], times: int) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times * 1e6
