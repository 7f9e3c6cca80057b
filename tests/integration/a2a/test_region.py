"""A2A in a region: no plans service there, and yet the same plans, the same cursors, the same promises."""

from pathlib import Path

from tests.harness.a2aclient import BINDINGS, Agent, Told, agent_at
from tests.harness.events import fresh
from tests.harness.gateway import running_gateway
from tests.harness.plans import planning
from tests.harness.region import hub_and_regions, regional_gateway


async def until_it_asks(agent: Agent, plan: str, cursor: str | None = None) -> list[Told]:
    """What a follower is told up to the plan's question; then it hangs up."""
    told: list[Told] = []
    updates = agent.follow(plan, cursor)
    async for one in updates:
        told.append(one)
        if one.state == "INPUT_REQUIRED":
            break
    await updates.aclose()
    return told


async def test_a_plan_is_begun_followed_and_resumed_in_a_region_and_at_the_hub(tmp_path: Path) -> None:
    owner = fresh("buyer")
    async with (
        hub_and_regions(tmp_path, "eu") as (site, _),
        site.relay("eu"),
        planning(site.hub.url),
        running_gateway(site.hub.url) as hub,
        regional_gateway(site, "eu", task_idle_s=1) as eu,
        agent_at(eu.url, owner) as near,
        agent_at(hub.url, owner, binding=BINDINGS[1]) as far,
    ):
        begun = await anext(near.send("make 3 ask"))
        plan = begun.payload.id
        task, *in_the_region = await until_it_asks(near, plan, begun.cursor)
        assert (task.kind, task.cursor) == ("task", begun.cursor)
        assert [one.text for one in in_the_region if one.kind == "artifact_update"] == ["0", "1", "2"]
        _, *at_the_hub = await until_it_asks(far, plan, in_the_region[0].cursor)
        assert [(one.cursor, one.text) for one in at_the_hub] == [(one.cursor, one.text) for one in in_the_region[1:]]

        following = near.follow(plan, in_the_region[-1].cursor)
        assert (await anext(following)).kind == "task"
        site.regions["eu"].link.sever()
        answered = [one async for one in far.send("say 3", task_id=plan)]
        site.regions["eu"].link.heal()
        rest = [one async for one in following]
    assert [one.text for one in rest] == ["say 3", "word 0", "word 1", "word 2", "done"]
    assert [one.cursor for one in rest] == [one.cursor for one in answered]
    assert rest[-1].state == "COMPLETED"
