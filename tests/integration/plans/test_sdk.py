"""Agents written with a2a-sdk, executed as plans: what they enqueue is stored as it is, in order."""

from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types.a2a_pb2 import Artifact, Message, Part, Role, Task, TaskState, TaskStatus

from contracts.planrequests import GetPlan, StartPlan
from services.local.embedded import EmbeddedNats
from services.plans.sdk import sdk_executor
from tests.harness.events import fresh
from tests.harness.plans import Asker, message, planning, state_of, texts_of
from tests.harness.streams import all_of, looking_at
from tests.harness.waiting import until


class Speaker(AgentExecutor):
    """Answers in the way that the message names."""

    cancelled: list[str] = []  # noqa: RUF012  # of all speakers of this process

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        assert context.current_task is not None
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        match context.get_user_input():
            case "message":
                said = Message(message_id="m", role=Role.ROLE_AGENT, parts=[Part(text="all in one")])
                await event_queue.enqueue_event(said)
            case "task":
                for state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING):
                    task = Task(id=context.task_id, context_id=context.context_id, status=TaskStatus(state=state))
                    await event_queue.enqueue_event(task)
                await updater.complete()
            case "whole":
                made = [Artifact(artifact_id=name, parts=[Part(text=name)]) for name in ("a", "b")]
                task = Task(id=context.task_id, context_id=context.context_id, artifacts=made[:1])
                await event_queue.enqueue_event(task)
                await updater.add_artifact([Part(text="and more")], "a", append=True)
                made[0].parts.append(Part(text="and more"))
                done = TaskStatus(state=TaskState.TASK_STATE_COMPLETED)
                task = Task(id=context.task_id, context_id=context.context_id, artifacts=made, status=done)
                await event_queue.enqueue_event(task)
            case "who":
                word = f"{context.call_context.user.user_name} wants {context.metadata['colour']}"
                await updater.complete(updater.new_agent_message([Part(text=word)]))
            case "wait":
                await updater.requires_input()
            case "artifacts":
                for number in range(3):
                    await updater.add_artifact(
                        [Part(text=f"{number}"), Part(raw=b"\x00\xff", media_type="image/png")],
                        "a",
                        "made",
                        append=number > 0,
                        last_chunk=number == 2,
                    )
                await updater.complete(updater.new_agent_message([Part(text="made")]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        self.cancelled.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id or "").cancel()


def speaker(_: float) -> Any:
    """For `A2A_PLAN_EXECUTOR`."""
    return sdk_executor(Speaker())


async def test_an_sdk_agents_updates_are_the_plans_events(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url, plan_executor=f"{__name__}:speaker"), looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        whole = await ada.ended((await ada.start("message")).task["id"])
        assert (state_of(whole), whole["status"]["message"]["parts"]) == ("COMPLETED", [{"text": "all in one"}])
        told = await ada.ended((await ada.start("task")).task["id"])
        stored = [one.document["data"] for one in await all_of(client, f"plan.{ada.sub}.{told['id']}", "PLANS")]
        assert [state_of(one) for one in stored] == ["SUBMITTED", "WORKING", "COMPLETED"]
        made = await ada.ended((await ada.start("artifacts")).task["id"])
        (artifact,) = made["artifacts"]
        assert [part.get("text") for part in artifact["parts"]] == ["0", None, "1", None, "2", None]
        assert artifact["parts"][1] == {"raw": "AP8=", "mediaType": "image/png"}
        assert texts_of(made) == ["artifacts"]


async def test_of_a_task_that_an_sdk_agent_tells_as_a_whole_what_is_new_is_stored(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url, plan_executor=f"{__name__}:speaker"), looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        made = await ada.ended((await ada.start("whole")).task["id"])
        assert state_of(made) == "COMPLETED"
        texts = {one["artifactId"]: [part["text"] for part in one["parts"]] for one in made["artifacts"]}
        assert texts == {"a": ["a", "and more"], "b": ["b"]}
        kinds = [one.document["type"] for one in await all_of(client, f"plan.{ada.sub}.{made['id']}", "PLANS")]
        assert kinds == ["PLAN_STATUS_UPDATED", *["PLAN_ARTIFACT_UPDATED"] * 3, "PLAN_STATUS_UPDATED"]


async def test_an_sdk_agent_knows_who_asks_and_what_the_request_said(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url, plan_executor=f"{__name__}:speaker"), looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        begun = await ada.plan(StartPlan(message("who"), metadata={"colour": "blue"}))
        told = await ada.ended(begun.task["id"])
        assert told["status"]["message"]["parts"] == [{"text": f"{ada.sub} wants blue"}]


async def test_an_sdk_agent_that_forgets_to_end_its_task_fails_it(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url, plan_executor=f"{__name__}:speaker"), looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        task = await ada.ended((await ada.start("nothing")).task["id"])
        assert state_of(task) == "FAILED"


async def test_the_task_that_an_sdk_agent_gets_again_is_the_fold(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url, plan_executor=f"{__name__}:speaker"), looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        plan_id = (await ada.start("wait")).task["id"]

        async def waits() -> bool:
            return state_of((await ada.plan(GetPlan(plan_id))).task) == "INPUT_REQUIRED"

        await until(waits, what="it waits")
        await ada.plan(StartPlan(message("artifacts", taskId=plan_id)))
        assert state_of(await ada.ended(plan_id)) == "COMPLETED"
