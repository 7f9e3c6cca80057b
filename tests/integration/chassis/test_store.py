"""The event store of aggregates on a real nats-server."""

import asyncio
import json
import re
from functools import partial
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.contract import ContractViolation
from contracts.errors import ErrorCode, Refused
from services.chassis import jetstream
from services.chassis.aggregates import Fold
from services.local.embedded import EmbeddedNats
from tests.harness.events import event, fresh
from tests.harness.streams import all_of, forget, looking_at
from tests.harness.toys import TOY, Counted, Site, Toy, command, storing
from tests.harness.waiting import until
from tests.load.natsline import NatsLine


async def stored_kinds(client: Client, toy: Toy) -> list[str]:
    return [one.document["type"] for one in await all_of(client, toy.target.subject)]


async def noted(client: Client) -> bool:
    """Whether the bucket knows it."""
    return (await jetstream.state(client, "KV_ROUTES")).messages > 0


async def test_what_was_decided_is_stored_and_answered_with_its_cursor(nats_server: str) -> None:
    toy = Toy.new()
    async with storing(nats_server) as site, looking_at(nats_server) as client:
        made = await site.store.change(toy.target, command(), toy.create, is_new=True)
        then = await site.store.change(toy.target, command(), toy.confirm)
        assert then.state == Counted(toy.target.id, 1)
        messages = await all_of(client, toy.target.subject)
        assert [one.sequence for one in messages] == [made.cursor.sequence, then.cursor.sequence]
        document = messages[1].document
        assert (document["type"], document["correlationid"]) == ("ORDER_CONFIRMED", toy.keys["intent_id"])
        assert document["causationid"].startswith("command:")
        assert messages[1].headers["Nats-Msg-Id"] == document["id"]


async def test_a_repeated_command_gets_the_same_answer_and_stores_nothing(nats_server: str) -> None:
    toy, create, confirm = Toy.new(), command(), command("k")
    async with looking_at(nats_server) as client:
        async with storing(nats_server) as site:
            made = await site.store.change(toy.target, create, toy.create, is_new=True)
            first = await site.store.change(toy.target, confirm, toy.confirm)
            await site.store.change(toy.target, command(), toy.confirm)
            again = await site.store.change(toy.target, confirm, toy.confirm)
            assert (again.cursor, again.repeated, again.events) == (first.cursor, True, ())
        async with storing(nats_server) as site:  # another process, which has to read what was handled
            again = await site.store.change(toy.target, confirm, toy.confirm)
            assert (again.cursor, again.repeated) == (first.cursor, True)
            again = await site.store.change(toy.target, create, toy.create, is_new=True)
            assert (again.cursor, again.repeated) == (made.cursor, True)
        assert len(await stored_kinds(client, toy)) == 3


async def test_a_key_with_another_request_is_refused(nats_server: str) -> None:
    toy = Toy.new()
    async with storing(nats_server) as site:
        await site.store.change(toy.target, command("k", {"a": 1}), toy.create, is_new=True)
        with pytest.raises(Refused) as refused:
            await site.store.change(toy.target, command("k", {"a": 2}), toy.confirm)
        assert refused.value.problem.code is ErrorCode.IDEMPOTENCY_KEY_REUSED


@pytest.mark.parametrize("processes", [1, 4])
async def test_of_200_concurrent_changes_one_is_stored(nats_server: str, processes: int) -> None:
    toy = Toy.new()
    async with looking_at(nats_server) as client, storing(nats_server) as first:
        await first.store.change(toy.target, command(), toy.create, is_new=True)
        sites = [first]

        async def more(left: int) -> None:
            if left:
                async with storing(nats_server) as site:
                    sites.append(site)
                    await more(left - 1)
                return
            await race(sites)

        async def race(sites: list[Site]) -> None:
            async def one(number: int) -> str:
                try:
                    await sites[number % len(sites)].store.change(toy.target, command(), toy.confirm_once)
                except Refused as error:
                    return error.problem.code.wire
                return "stored"

            told = await asyncio.gather(*(one(number) for number in range(200)))
            assert sorted(set(told)) == ["order_paid", "stored"]
            assert told.count("stored") == 1

        await more(processes - 1)
        assert await stored_kinds(client, toy) == ["ORDER_CREATED", "ORDER_CONFIRMED"]


async def test_concurrent_changes_that_may_all_happen_all_happen(nats_server: str) -> None:
    toy = Toy.new()
    async with looking_at(nats_server) as client, storing(nats_server) as one, storing(nats_server) as other:
        await one.store.change(toy.target, command(), toy.create, is_new=True)
        sites = (one, other)
        changes = (sites[number % 2].store.change(toy.target, command(), toy.confirm) for number in range(20))
        await asyncio.gather(*changes)
        assert (await one.store.view(toy.target)).state == Counted(toy.target.id, 20)
        ids = [stored.document["id"] for stored in await all_of(client, toy.target.subject)]
        assert len(set(ids)) == 21


async def test_when_others_are_always_faster_it_is_a_conflict(nats_server: str) -> None:
    toy = Toy.new()
    tries = []
    async with storing(nats_server) as site:
        await site.store.change(toy.target, command(), toy.create, is_new=True)
        names: Any = {name.removesuffix("_id"): value for name, value in toy.keys.items()}
        with NatsLine(int(nats_server.rpartition(":")[2])) as line:

            def decide(state: Counted | None) -> Any:
                tries.append(state)
                faster = event("ORDER_CONFIRMED", order=toy.target.id, **names)
                line.request(toy.target.subject, json.dumps(faster).encode())
                return toy.confirm(state)

            with pytest.raises(Refused) as refused:
                await site.store.change(toy.target, command(), decide)
        assert (refused.value.problem.code, refused.value.problem.may_retry) == (ErrorCode.CONFLICT, True)
        assert tries == [Counted(toy.target.id, number) for number in range(8)]
        assert site.counted("a2a_store_changes_total", aggregate="order", outcome="conflict") == 1


async def test_data_of_another_aggregate_and_of_no_contract_is_a_bug(nats_server: str) -> None:
    toy, other = Toy.new(), Toy.new()
    async with storing(nats_server) as site, looking_at(nats_server) as client:
        for wrong in (other.create(None), [Counted("o")]):
            with pytest.raises(ContractViolation):
                await site.store.change(toy.target, command(), lambda _, wrong=wrong: wrong, is_new=True)  # type: ignore[misc]
        assert await stored_kinds(client, toy) == await stored_kinds(client, other) == []


async def test_a_refusal_is_judged_by_what_is_stored_not_by_what_is_in_memory(nats_server: str) -> None:
    toy = Toy.new()
    async with storing(nats_server) as one, storing(nats_server) as other:
        await one.store.change(toy.target, command(), toy.create, is_new=True)

        def only_confirmed(state: Counted | None) -> Any:
            return toy.confirm(state) if state is not None and state.confirmations else toy.create(state)

        await other.store.change(toy.target, command(), toy.confirm)
        assert (await one.store.change(toy.target, command(), only_confirmed)).state == Counted(toy.target.id, 2)


async def test_an_id_is_found_by_its_route_and_without_it(fresh_nats: EmbeddedNats) -> None:
    toy = Toy.new()
    async with looking_at(fresh_nats.url) as client:
        async with storing(fresh_nats.url) as site:
            await site.store.change(toy.target, command(), toy.create, is_new=True)
            assert await site.store.find(TOY, toy.target.id) == toy.target
            assert await site.store.find(TOY, "nobody") is None
        async with storing(fresh_nats.url) as site:
            assert await site.store.find(TOY, toy.target.id) == toy.target
        await client.jetstream().purge_stream("KV_ROUTES")
        async with storing(fresh_nats.url) as site:
            assert await site.store.find(TOY, toy.target.id) == toy.target
        # Nobody waited until it was stored.
        await until(lambda: noted(client))
        entry = await client.jetstream().get_last_msg("KV_ROUTES", f"$KV.ROUTES.order.{toy.target.id}")
        assert json.loads(entry.data or b"")["subject"] == toy.target.subject
        for wrong in (b"", b"{", b'{"epoch":"x","subject":"market.>","first":1}', b"[]"):
            await client.publish(f"$KV.ROUTES.order.{toy.target.id}", wrong)
            async with storing(fresh_nats.url) as site:
                assert await site.store.find(TOY, toy.target.id) == toy.target
        await jetstream.request(client, "STREAM.DELETE.KV_ROUTES")
        async with storing(fresh_nats.url, declare=False) as site:
            assert await site.store.find(TOY, toy.target.id) == toy.target


async def test_a_long_fold_begins_at_its_snapshot_and_does_without(fresh_nats: EmbeddedNats) -> None:
    toy, early = Toy.new(), command()
    async with looking_at(fresh_nats.url) as client:
        async with storing(fresh_nats.url) as site:
            await site.store.change(toy.target, early, toy.create, is_new=True)
            for _ in range(620):
                await site.store.change(toy.target, command(), toy.confirm)
            assert site.counted("a2a_store_snapshots_total", outcome="written") == 3
        key = f"$KV.ROUTES.order.{toy.target.id}"
        snapshot = (await client.jetstream().get_last_msg("KV_ROUTES", key)).data or b""

        async def notes() -> int:
            return (await jetstream.state(client, "KV_ROUTES")).last

        async def another(since: int) -> bool:
            return await notes() > since

        async def folded() -> tuple[float, float]:
            since = await notes()
            async with storing(fresh_nats.url) as site:
                assert (await site.store.view(toy.target)).state == Counted(toy.target.id, 620)
                assert (await site.store.change(toy.target, early, toy.create)).repeated
                used = site.counted("a2a_store_snapshots_total", outcome="used")
                # Who finds none makes one, which must not come after what the test writes next.
                if not used:
                    await until(partial(another, since), what="a snapshot is made")
                return used, site.counted("a2a_store_snapshots_total", outcome="unusable")

        assert await folded() == (1, 0)
        for wrong in (
            snapshot.replace(b'"revision":"1', b'"revision":"0'),
            snapshot.replace(b'ons":', b'ons":"x","y":'),
            # Of events that the stream does not have, as after it was restored from an older copy.
            re.sub(rb'"last":[0-9]+', b'"last":9999', snapshot),
        ):
            await client.request(key, wrong)
            assert await folded() == (0, 1)
        await client.jetstream().purge_stream("KV_ROUTES")
        assert await folded() == (0, 0)


async def test_a_view_is_what_its_cursor_says_while_others_write(nats_server: str) -> None:
    toy = Toy.new()
    async with looking_at(nats_server) as client, storing(nats_server) as writer, storing(nats_server) as reader:
        await writer.store.change(toy.target, command(), toy.create, is_new=True)
        seen: list[tuple[int, int]] = []

        async def watch() -> None:
            while len(seen) < 150:
                one = await reader.store.view(toy.target)
                many = await reader.store.view_all([TOY], f"market.{toy.keys['intent_id']}.>")
                assert one.state is not None
                seen.append((one.cursor.sequence, one.state.confirmations))
                seen.append((many.cursor.sequence, many.states[toy.target.subject].confirmations))

        async def write() -> None:
            for _ in range(100):
                await writer.store.change(toy.target, command(), toy.confirm)

        await asyncio.gather(watch(), write())
        sequences = [one.sequence for one in await all_of(client, toy.target.subject)]
        for cursor, confirmations in seen:
            assert sum(1 for sequence in sequences if sequence <= cursor) == confirmations + 1


async def test_a_view_of_many_is_as_of_its_cursor_while_this_very_process_writes(nats_server: str) -> None:
    first = Toy.new()
    keys = {name.removesuffix("_id"): value for name, value in first.keys.items()}
    toys = [Toy(TOY.at(fresh("order"), **keys), first.keys) for _ in range(6)]
    async with storing(nats_server) as site, looking_at(nats_server) as client:
        for toy in toys:
            await site.store.change(toy.target, command(), toy.create, is_new=True)

        async def write(toy: Toy) -> None:
            for _ in range(60):
                await site.store.change(toy.target, command(), toy.confirm)

        writing = asyncio.gather(*map(write, toys))
        views = []
        while not writing.done():
            views.append(await site.store.view_all([TOY], f"market.{keys['intent']}.>"))
        await writing
        for toy in toys:
            sequences = [one.sequence for one in await all_of(client, toy.target.subject)][1:]
            for view in views:
                told = sum(one <= view.cursor.sequence for one in sequences)
                assert view.states[toy.target.subject].confirmations == told


async def test_a_stream_made_again_begins_anew(fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy.new()
    async with looking_at(fresh_nats.url) as client, storing(fresh_nats.url) as site:
        before = await site.store.change(toy.target, command(), toy.create, is_new=True)
        await site.store.change(toy.target, command(), toy.confirm)
        await forget(client)
        await asyncio.sleep(0.005)  # an epoch is a millisecond
        from contracts.topology import streams

        await jetstream.ensure(client, streams(market_max_bytes=64 * 1024**2))
        after = await site.store.change(toy.target, command(), toy.create, is_new=True)
        assert after.state == Counted(toy.target.id)
        assert after.cursor.epoch > before.cursor.epoch
        assert (await site.store.view(toy.target)).cursor.epoch == after.cursor.epoch


async def test_events_of_other_publishers_are_folded(nats_server: str) -> None:
    toy = Toy.new()
    names: Any = {name.removesuffix("_id"): value for name, value in toy.keys.items()}
    async with looking_at(nats_server) as client, storing(nats_server) as site:
        document = event("ORDER_CREATED", order=toy.target.id, **names)
        await client.jetstream().publish(toy.target.subject, json.dumps(document).encode())
        assert (await site.store.change(toy.target, command(), toy.confirm)).state == Counted(toy.target.id, 1)


def test_what_a_fold_took_in_before_changes_nothing() -> None:
    toy = Toy.new()
    fold = Fold(toy.target)
    created = toy.create(None)
    assert not isinstance(created, ErrorCode)
    for sequence in (5, 5, 4):
        fold.apply(sequence, created[0], "cause")  # type: ignore[index]  # a decision that is no problem
    assert (fold.first, fold.last, fold.count) == (5, 5, 1)
