"""A thousand plans leave nothing behind: the service's memory is, round after round, where it was."""

import asyncio
import time
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.a2a import A2aEvent
from contracts.planrequests import ListPlans, PlansAnswer, Refusal
from services.local.embedded import EmbeddedNats
from services.plans import store
from services.plans.ledger import Ledger
from services.plans.queue import A2aGap, A2aSubscription
from tests.harness.events import fresh
from tests.harness.plans import Asker, answering, planning, process, publishing_plans, state_of
from tests.harness.streams import looking_at
from tests.harness.waiting import until

EVENTS = 20


def kilobytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def count_ends(subscription: A2aSubscription, seen: dict[str, list[A2aEvent]], wanted: int) -> None:
    """Until so many plans have ended."""
    ended = 0
    async for item in subscription:
        assert not isinstance(item, A2aGap)
        seen.setdefault(item.plan_id, []).append(item)
        ended += item.is_final
        if ended == wanted:
            return


async def one_round(client: Client, nats_url: str, plans: int) -> float:
    """So many plans of 20 events, all followed and complete, in order; the seconds it took."""
    ada, seen = Asker(client, fresh("ada")), dict[str, list[A2aEvent]]()
    began = time.monotonic()
    async with publishing_plans(nats_url) as site:
        following = asyncio.create_task(count_ends(await site.queue.subscribe(owner=ada.sub), seen, plans))
        room = asyncio.Semaphore(50)

        async def start() -> None:
            async with room:
                await ada.start(f"say {EVENTS - 2}")

        await asyncio.gather(*(start() for _ in range(plans)))
        await asyncio.wait_for(following, 300)
    assert len(seen) == plans
    for items in seen.values():
        assert len(items) == EVENTS
        sequences = [item.cursor.sequence for item in items if item.cursor is not None]
        assert sequences == sorted(set(sequences))
    return time.monotonic() - began


async def grown(client: Client, nats_url: str, *, plans: int, rounds: int) -> list[int]:
    """The service's memory after each round."""
    replica = await process(nats_url, A2A_PLANS_RUNNING="1000", A2A_PLAN_LEASE_S="15")
    try:
        await answering(client)
        found = []
        for number in range(rounds):
            seconds = await one_round(client, nats_url, plans)
            found.append(kilobytes(replica.pid))
            print(f"round {number}: {plans} plans in {seconds:.1f} s, {found[-1]} kB")
        return found
    finally:
        replica.terminate()
        await replica.wait()


async def test_plans_of_twenty_events_are_complete_in_order_and_gone_from_memory(
    fresh_nats: EmbeddedNats,
) -> None:
    async with looking_at(fresh_nats.url) as client:
        found = await grown(client, fresh_nats.url, plans=20, rounds=2)
    assert found[-1] - found[0] < 8 * 1024


@pytest.mark.endurance
@pytest.mark.timeout(1100)
async def test_a_thousand_plans_of_twenty_events_leave_nothing_behind_over_ten_rounds(
    fresh_nats: EmbeddedNats,
) -> None:
    async with looking_at(fresh_nats.url) as client:
        found = await grown(client, fresh_nats.url, plans=1000, rounds=10)
    assert found[-1] - found[2] < 16 * 1024


async def test_a_list_of_many_plans_is_read_within_its_deadline(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, view = list[Any](), Ledger.view

    async def counted(ledger: Ledger, target: Any) -> Any:
        reads.append(target)
        return await view(ledger, target)

    monkeypatch.setattr(Ledger, "view", counted)
    async with looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        async with planning(fresh_nats.url):
            await one_round_of(ada, 50)
        async with planning(fresh_nats.url):  # a process that has read none of them
            began = time.monotonic()
            page = await ada.list(page_size=100)
            print(f"a list of {page.total_size} plans: {time.monotonic() - began:.2f} s")
            # What has ended is not read again; what goes on is.
            reads.clear()
            waiting = (await ada.start("ask")).task["id"]

            async def asks() -> bool:
                (latest,) = (await ada.list(page_size=1)).tasks
                return (latest["id"], state_of(latest)) == (waiting, "INPUT_REQUIRED")

            await until(asks, what="the list tells that it asks")
            assert {target.id for target in reads} == {waiting}
        assert page.total_size == 50
        assert {state_of(task) for task in page.tasks} == {"COMPLETED"}


async def test_lists_wait_for_each_other_and_what_is_too_much_is_told_so(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MOST_LISTS", 3)
    async with looking_at(fresh_nats.url) as client, planning(fresh_nats.url):
        ada = Asker(client, fresh("ada"))
        await one_round_of(ada, 5)
        answers = await asyncio.gather(*(ada.ask(ListPlans()) for _ in range(20)))
        told = {one.error.code for one in answers if isinstance(one, Refusal)}
        assert told == {"rate_limited"}
        assert {one.total_size for one in answers if isinstance(one, PlansAnswer)} == {5}
        assert (await ada.list()).total_size == 5


async def one_round_of(ada: Asker, plans: int) -> None:
    ids = [one.task["id"] for one in await asyncio.gather(*(ada.start("say 1") for _ in range(plans)))]
    for plan_id in ids:
        await ada.ended(plan_id)
