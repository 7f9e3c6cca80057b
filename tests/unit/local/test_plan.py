"""A made-up plan: says what it wants, and its price when it is asked for one."""

from typing import Any

import pytest

from services.local.plan import MadeUpPlan


def requests_of(plan: MadeUpPlan, *states: str) -> list[Any]:
    """What it asks, where the task is found in these states one after the other."""
    found, story, answers = [], plan.story(), iter(states)
    try:
        request = next(story)
        while True:
            found.append(request)
            task = {"id": "p1", "status": {"state": f"TASK_STATE_{next(answers, 'WORKING')}"}}
            request = story.send({"task": task} if request.body is not None else task)
    except StopIteration:
        return found


def test_a_plan_with_a_price_is_begun_and_left_to_its_agent() -> None:
    (begun,) = requests_of(MadeUpPlan("k", "ada", "a study", 70, says_price=True), "SUBMITTED")
    assert begun.body["message"]["parts"] == [{"text": "a study, at most 70 EUR"}]
    assert (begun.service, begun.sub, begun.role) == ("gateway", "ada", "buyer")


def test_a_plan_without_a_price_says_it_once_it_is_asked() -> None:
    plan = MadeUpPlan("k", "ada", "a study", 70, says_price=False)
    *_, asked, said = requests_of(plan, "SUBMITTED", "WORKING", "INPUT_REQUIRED")
    assert asked.path.startswith("/a2a/tasks/p1")
    assert said.body["message"] == {
        "messageId": "k-price", "role": "ROLE_USER", "parts": [{"text": "70 EUR"}], "taskId": "p1"
    }  # fmt: skip


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_plan_that_ended_without_asking_is_let_be(state: str) -> None:
    plan = MadeUpPlan("k", "ada", "a study", 70, says_price=False)
    assert len(requests_of(plan, "SUBMITTED", state)) == 2
