"""The event store while answers are lost and NATS is away, stands still or is full: what is stored is stored once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.errors import ErrorCode, Refused
from services.chassis import jetstream
from services.chassis.aggregates import Cause, Change
from services.local.embedded import EmbeddedNats
from tests.harness.line import Line
from tests.harness.streams import all_of, looking_at
from tests.harness.toys import Counted, Site, Toy, command, storing
from tests.harness.waiting import freeze, until


@pytest.fixture
async def line(fresh_nats: EmbeddedNats) -> AsyncIterator[Line]:
    async with Line(fresh_nats.port).open() as found:
        yield found


@pytest.fixture
async def client(fresh_nats: EmbeddedNats) -> AsyncIterator[Client]:
    async with looking_at(fresh_nats.url) as found:
        yield found


async def kinds(client: Client, toy: Toy) -> list[str]:
    return [one.document["type"] for one in await all_of(client, toy.target.subject)]


async def created(site: Site) -> Toy:
    toy = Toy.new()
    await site.store.change(toy.target, command(), toy.create, is_new=True)
    return toy


async def test_an_answer_that_is_lost_is_found_in_the_stream(line: Line, client: Client) -> None:
    async with storing(line.url, ack_seconds=0.5, deadline_seconds=20) as site:
        toy = await created(site)
        line.deafen()
        changing = asyncio.create_task(site.store.change(toy.target, command(), toy.confirm))

        async def is_stored() -> bool:
            return len(await kinds(client, toy)) == 2

        await until(is_stored)
        line.cut()
        change: Change[Counted] = await changing
        assert (change.state, change.repeated) == (Counted(toy.target.id, 1), True)
        messages = await all_of(client, toy.target.subject)
        assert [one.sequence for one in messages][1:] == [change.cursor.sequence]


async def test_a_first_event_whose_answer_is_lost_is_stored_once(line: Line, client: Client) -> None:
    async with storing(line.url, ack_seconds=0.5, deadline_seconds=20) as site:
        toy = Toy.new()
        line.deafen()
        creating = asyncio.create_task(site.store.change(toy.target, command(), toy.create, is_new=True))
        await asyncio.sleep(0.7)
        line.cut()
        assert (await creating).state == Counted(toy.target.id)
        assert await kinds(client, toy) == ["ORDER_CREATED"]


async def test_a_batch_whose_answer_is_lost_is_stored_once_and_whole(line: Line, client: Client) -> None:
    async with storing(line.url, ack_seconds=0.5, deadline_seconds=20) as site:
        one, other = await created(site), await created(site)
        line.deafen()
        changing = asyncio.create_task(
            site.store.change_all([one.target, other.target], command(), lambda states: _both(one, other, states))
        )
        await asyncio.sleep(0.7)
        line.cut()
        await changing
        for toy in (one, other):
            assert await kinds(client, toy) == ["ORDER_CREATED", "ORDER_CONFIRMED"]


def _both(one: Toy, other: Toy, states: Any) -> Any:
    return [*one.confirm_once(states[0]), *other.confirm(states[1])]  # type: ignore[misc]  # neither is refused


async def test_a_batch_is_all_or_nothing_when_somebody_was_faster(fresh_nats: EmbeddedNats, client: Client) -> None:
    url = fresh_nats.url
    async with storing(url) as site, storing(url) as faster:
        one, other = await created(site), await created(site)
        seen: list[tuple[int, int]] = []

        def decide(states: Any) -> Any:
            seen.append((states[0].confirmations, states[1].confirmations))
            return _both(one, other, states)

        await faster.store.change(other.target, command(), other.confirm)
        await site.store.change_all([one.target, other.target], command(), decide)
        assert seen == [(0, 0), (0, 1)]
        assert await kinds(client, one) == ["ORDER_CREATED", "ORDER_CONFIRMED"]
        assert await kinds(client, other) == ["ORDER_CREATED", "ORDER_CONFIRMED", "ORDER_CONFIRMED"]


async def test_a_server_that_stood_still_stores_once_what_was_sent_twice(
    fresh_nats: EmbeddedNats, client: Client
) -> None:
    async with storing(fresh_nats.url, ack_seconds=0.3, deadline_seconds=20) as site:
        toy = await created(site)
        assert fresh_nats.process is not None
        freeze(fresh_nats.process)
        try:
            changing = asyncio.create_task(site.store.change(toy.target, command(), toy.confirm))
            await asyncio.sleep(1)
        finally:
            os.kill(fresh_nats.process.pid, signal.SIGCONT)
        assert (await changing).state == Counted(toy.target.id, 1)
        assert await kinds(client, toy) == ["ORDER_CREATED", "ORDER_CONFIRMED"]


async def test_commands_sent_again_under_their_keys_survive_the_death_of_nats(
    fresh_nats: EmbeddedNats, client: Client
) -> None:
    async with storing(fresh_nats.url, ack_seconds=0.5, deadline_seconds=2) as site:
        toys = [await created(site) for _ in range(5)]

        async def confirm(toy: Toy, cause: Cause) -> None:
            while True:
                try:
                    await site.store.change(toy.target, cause, toy.confirm)
                except Refused as error:
                    if not error.problem.may_retry:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    return

        async def many(toy: Toy) -> None:
            for _ in range(100):
                await confirm(toy, command())

        running = asyncio.gather(*(many(toy) for toy in toys))
        for _ in range(2):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(fresh_nats.kill)
            await asyncio.to_thread(fresh_nats.start)
        await running
        for toy in toys:
            view = await site.store.view(toy.target)
            assert view.state == Counted(toy.target.id, 100)
            assert len(await kinds(client, toy)) == 101


async def test_while_nats_is_away_it_is_told_in_time(fresh_nats: EmbeddedNats) -> None:
    async with storing(fresh_nats.url, ack_seconds=0.2, deadline_seconds=1) as site:
        toy = await created(site)
        fresh_nats.kill()
        began = asyncio.get_running_loop().time()
        for asking in (
            site.store.change(toy.target, command(), toy.confirm),
            site.store.view(toy.target),
            site.store.view_all([toy.target.aggregate], toy.target.subject),
            site.store.find(toy.target.aggregate, "somebody"),
        ):
            with pytest.raises(Refused) as refused:
                await asking
            assert refused.value.problem.code is ErrorCode.STORE_UNAVAILABLE
        assert asyncio.get_running_loop().time() - began < 5


async def test_who_waits_for_others_is_told_in_time_too(fresh_nats: EmbeddedNats) -> None:
    async with storing(fresh_nats.url, ack_seconds=0.2, deadline_seconds=1) as site:
        toy = await created(site)
        assert fresh_nats.process is not None
        freeze(fresh_nats.process)
        try:
            began = asyncio.get_running_loop().time()
            changes = [site.store.change(toy.target, command(), toy.confirm) for _ in range(5)]
            found = await asyncio.gather(*changes, return_exceptions=True)
            assert asyncio.get_running_loop().time() - began < 2
        finally:
            os.kill(fresh_nats.process.pid, signal.SIGCONT)
        for one in found:
            assert isinstance(one, Refused)
            assert one.problem.code is ErrorCode.STORE_UNAVAILABLE


async def test_a_full_stream_is_told(fresh_nats: EmbeddedNats, client: Client) -> None:
    async with storing(fresh_nats.url) as site:
        toy = await created(site)
        config = (await jetstream.state(client, "MARKET")).config
        await jetstream.request(client, "STREAM.UPDATE.MARKET", {**config, "max_bytes": 2000})
        changes = [site.store.change(toy.target, command(), toy.confirm) for _ in range(10)]
        with pytest.raises(Refused) as refused:
            await asyncio.gather(*changes)
        assert refused.value.problem.code is ErrorCode.STORE_FULL


async def test_an_id_that_nobody_has_is_searched_for_once_in_a_while(fresh_nats: EmbeddedNats) -> None:
    async with storing(fresh_nats.url) as site:
        toy = Toy.new()
        found = await asyncio.gather(*(site.store.find(toy.target.aggregate, toy.target.id) for _ in range(50)))
        assert found == [None] * 50
        # Made here it is known here at once.
        await site.store.change(toy.target, command(), toy.create, is_new=True)
        assert await site.store.find(toy.target.aggregate, toy.target.id) == toy.target
