"""`A2aEventQueue` on a real nats-server, used by an agent in a process of its own: not by services/plans."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from contracts.a2a import ArtifactUpdate, PlanProblem, StatusUpdate
from contracts.cursor import Cursor
from contracts.errors import Refused
from contracts.events.plan_v1 import Message, Part, TaskState
from contracts.subjects import InvalidSubject
from contracts.topology import streams
from services.chassis import jetstream
from services.chassis.aggregates import Cause
from services.local.embedded import EmbeddedNats
from services.plans import domain
from services.plans.executor import PlanContext
from services.plans.queue import A2aGap, QueueClosed
from tests.harness.events import fresh
from tests.harness.line import Line
from tests.harness.plans import Site, followed, publishing_plans, words_of
from tests.harness.streams import looking_at

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def site(nats_server: str) -> AsyncIterator[Site]:
    async with publishing_plans(nats_server) as site:
        yield site


async def begun(site: Site, owner: str | None = None) -> PlanContext:
    """A plan that an agent of its own begins and speaks for."""
    owner, plan_id = owner or fresh("ada"), fresh("plan")
    message = Message(
        messageId=fresh("m"), role="ROLE_USER", parts=(Part(text="go"),), taskId=plan_id, contextId=fresh("c")
    )
    target = site.ledger.target(owner, plan_id)
    await site.ledger.change(
        target,
        Cause(message.messageId),
        lambda plan: domain.start(plan, message=message, execution=0, metadata=None, now=datetime.now(UTC)),
    )
    return PlanContext(owner, plan_id, message.contextId or "", message, {}, 0, False, lambda: datetime.now(UTC))


async def test_what_is_published_comes_out_in_order_with_its_cursors_until_the_plan_is_over(site: Site) -> None:
    plan = await begun(site)
    async with await site.queue.subscribe(plan.plan_id, owner=plan.owner) as subscription:
        told = [
            await site.queue.publish(plan.status(TaskState.WORKING, "one")),
            await site.queue.publish(plan.artifact("a", [Part(text="x")])),
            await site.queue.publish(plan.problem("hiccup", "slow")),
            await site.queue.publish(plan.status(TaskState.COMPLETED)),
        ]
        items = await asyncio.wait_for(followed(subscription), 10)
    assert [type(one) for one in items] == [StatusUpdate, ArtifactUpdate, PlanProblem, StatusUpdate]
    assert [one.cursor for one in items] == told
    assert {(one.owner, one.plan_id) for one in items} == {(plan.owner, plan.plan_id)}


async def test_a_subscription_to_one_plan_or_one_owner_holds_nothing_of_another(site: Site) -> None:
    mine, other = await begun(site), await begun(site)
    again = await begun(site, mine.owner)
    one = await site.queue.subscribe(mine.plan_id)
    owners = await site.queue.subscribe(owner=mine.owner)
    everybodys = await site.queue.subscribe()
    for plan in (other, again, mine):
        await site.queue.publish(plan.status(TaskState.COMPLETED, plan.plan_id))
    assert words_of(await asyncio.wait_for(followed(one), 10)) == [mine.plan_id]
    seen = [await asyncio.wait_for(anext(owners), 10) for _ in range(2)]
    assert words_of(seen) == [again.plan_id, mine.plan_id]
    wanted = {mine.plan_id, again.plan_id, other.plan_id}
    found: set[str] = set()
    while not wanted <= found:
        item = await asyncio.wait_for(anext(everybodys), 10)
        assert not isinstance(item, A2aGap)
        found.add(item.plan_id)
    await site.queue.unsubscribe(owners)
    await site.queue.unsubscribe(everybodys)


async def test_a_subscription_resumes_after_any_cursor_with_nothing_missing_or_double(site: Site) -> None:
    plan = await begun(site)
    for number in range(9):
        await site.queue.publish(plan.status(TaskState.WORKING, f"{number}"))
    end = await site.queue.publish(plan.status(TaskState.COMPLETED, "9"))
    stored = 1 + 9 + 1
    whole = await asyncio.wait_for(
        followed(await site.queue.subscribe(plan.plan_id, after=Cursor("PLANS", end.epoch, 0))), 10
    )
    whole = [one for one in whole if not isinstance(one, A2aGap)]
    assert len(whole) == stored
    for index, item in enumerate(whole[:-1]):
        rest = await asyncio.wait_for(followed(await site.queue.subscribe(plan.plan_id, after=item.cursor)), 10)
        assert rest == whole[index + 1 :]


async def test_a_subscription_that_begins_behind_a_plans_end_has_ended(site: Site) -> None:
    plan = await begun(site)
    end = await site.queue.publish(plan.status(TaskState.COMPLETED, "done"))
    await site.queue.publish((await begun(site)).status(TaskState.WORKING, "of another"))
    for owner in (plan.owner, None):
        for after in (end, None):
            behind = await site.queue.subscribe(plan.plan_id, owner=owner, after=after)
            assert await asyncio.wait_for(followed(behind), 10) == []
    ahead = await site.queue.subscribe(plan.plan_id, after=Cursor("PLANS", end.epoch, end.sequence + 10**6))
    (gap,) = await asyncio.wait_for(followed(ahead), 10)
    assert (type(gap), gap.reason) == (A2aGap, "ahead")


async def test_of_a_plan_that_has_aged_out_a_gap_is_told_and_then_the_end(fresh_nats: EmbeddedNats) -> None:
    async with publishing_plans(fresh_nats.url) as site, looking_at(fresh_nats.url) as client:
        plan = await begun(site)
        end = await site.queue.publish(plan.status(TaskState.COMPLETED, "done"))
        await site.ledger.snapshot(site.ledger.target(plan.owner, plan.plan_id))
        await client.jetstream().purge_stream("PLANS")
        old = await site.queue.subscribe(plan.plan_id, owner=plan.owner, after=Cursor("PLANS", end.epoch, 0))
        (gap,) = await asyncio.wait_for(followed(old), 10)
        assert (gap.reason, gap.cursor) == ("expired", end)


@pytest.mark.parametrize("wrong", ["*", ">", "a.b", "", "-", "x" * 65])
async def test_what_is_no_id_is_refused_and_no_wild_card(site: Site, wrong: str) -> None:
    for plan_id, owner in ((wrong, None), (None, wrong), (wrong, "ada"), ("p", wrong)):
        with pytest.raises(InvalidSubject):
            await site.queue.subscribe(plan_id, owner=owner)


async def test_nothing_is_added_to_an_artifact_that_was_told_to_be_whole(site: Site) -> None:
    plan = await begun(site)
    for number in range(3):
        chunk = plan.artifact("a", [Part(text=f"{number}")], append=number > 0, last=number == 2)
        await site.queue.publish(chunk)
    with pytest.raises(Refused, match="last chunk"):
        await site.queue.publish(plan.artifact("a", [Part(text="3")], append=True))


async def test_the_same_key_is_stored_once(site: Site) -> None:
    plan = await begun(site)
    event = plan.status(TaskState.WORKING, "once")
    first = await site.queue.publish(event, key="k")
    assert await site.queue.publish(event, key="k") == first


async def test_nothing_follows_the_end_and_nothing_precedes_the_beginning(site: Site) -> None:
    plan = await begun(site)
    await site.queue.publish(plan.status(TaskState.FAILED))
    for late in (plan.status(TaskState.WORKING), plan.artifact("a", [Part(text="x")]), plan.problem("e", "m")):
        with pytest.raises(Refused) as refused:
            await site.queue.publish(late)
        assert refused.value.problem.code.wire == "plan_closed"
    unknown = PlanContext("ada", fresh("p"), "c", plan.message, {}, 0, False, plan.clock)
    with pytest.raises(Refused) as refused:
        await site.queue.publish(unknown.status(TaskState.WORKING))
    assert refused.value.problem.code.wire == "not_found"


async def test_a_closed_queue_ends_its_subscriptions_and_publishes_no_more(site: Site) -> None:
    plan = await begun(site)
    subscription = await site.queue.subscribe(plan.plan_id)
    waiting = asyncio.create_task(followed(subscription))
    await asyncio.sleep(0)
    await site.queue.close()
    assert await asyncio.wait_for(waiting, 10) == []
    with pytest.raises(QueueClosed):
        await site.queue.publish(plan.status(TaskState.WORKING))
    with pytest.raises(QueueClosed):
        await site.queue.subscribe(plan.plan_id)


async def test_a_subscription_lives_through_cuts_of_its_connection(fresh_nats: EmbeddedNats) -> None:
    port = int(fresh_nats.url.rpartition(":")[2])
    async with (
        publishing_plans(fresh_nats.url) as direct,
        Line(port).open() as line,
        publishing_plans(line.url) as cut,
    ):
        plan = await begun(direct)
        subscription = await cut.queue.subscribe(plan.plan_id, owner=plan.owner)
        following = asyncio.create_task(followed(subscription))
        for number in range(30):
            if number == 5:
                line.cut()
            if number == 10:
                line.sever()
            await direct.queue.publish(plan.status(TaskState.WORKING, f"{number}"))
            if number == 14:
                line.heal()
        await direct.queue.publish(plan.status(TaskState.COMPLETED, "30"))
        items = await asyncio.wait_for(following, 30)
    assert words_of(items) == [f"{number}" for number in range(31)]


async def test_what_cannot_be_had_is_a_gap_with_its_reason(fresh_nats: EmbeddedNats) -> None:
    async with publishing_plans(fresh_nats.url) as site, looking_at(fresh_nats.url) as client:
        plan = await begun(site)
        now = await site.queue.publish(plan.status(TaskState.WORKING, "one"))
        await client.jetstream().purge_stream("PLANS")
        for cursor, reason in [
            (Cursor("PLANS", now.epoch, 0), "expired"),
            (Cursor("PLANS", now.epoch, 999), "ahead"),
            (Cursor("PLANS", "000000001", 5), "recreated"),
        ]:
            subscription = await site.queue.subscribe(plan.plan_id, owner=plan.owner, after=cursor)
            gap = await asyncio.wait_for(anext(subscription), 10)
            assert isinstance(gap, A2aGap)
            assert (gap.reason, gap.start) == (reason, cursor)
            assert gap.cursor.sequence == now.sequence
            await subscription.close()


async def test_a_stream_made_again_under_a_subscription_is_a_gap_in_band(fresh_nats: EmbeddedNats) -> None:
    async with publishing_plans(fresh_nats.url) as site, looking_at(fresh_nats.url) as client:
        plan = await begun(site)
        subscription = await site.queue.subscribe(owner=plan.owner)
        for name in ("PLANS_REPLAY", "PLANS"):
            await client.jetstream().delete_stream(name)
        await jetstream.ensure(client, [one for one in streams() if one.name == "PLANS"])
        gap = await asyncio.wait_for(anext(subscription), 10)
        assert isinstance(gap, A2aGap)
        assert gap.reason == "recreated"
        later = await begun(site, plan.owner)
        item = await asyncio.wait_for(anext(subscription), 10)
        assert isinstance(item, StatusUpdate)
        assert item.plan_id == later.plan_id
        await subscription.close()


async def test_what_is_no_event_of_a_plan_is_passed(site: Site, nats_server: str) -> None:
    plan = await begun(site)
    owners = await site.queue.subscribe(owner=plan.owner)
    async with looking_at(nats_server) as client:
        for junk in (b"junk", b"{}", b'{"type":"X"}'):
            await client.request(f"plan.{plan.owner}.{fresh('junk')}", junk)
    end = await site.queue.publish(plan.status(TaskState.COMPLETED))
    item = await asyncio.wait_for(anext(owners), 10)
    assert item.cursor == end
    await owners.close()
