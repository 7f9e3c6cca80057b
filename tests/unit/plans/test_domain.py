"""A plan's rules: each decision in a sentence, and all of them by a machine that tries what it likes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.errors import ErrorCode, Problem
from contracts.events.plan_v1 import (
    Artifact,
    Message,
    Part,
    PlanArtifactUpdated,
    PlanError,
    PlanStatusUpdated,
    TaskState,
    TaskStatus,
)
from services.plans import domain
from services.plans.domain import Plan

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LARGEST_ANSWER = 1024 * 1024


def user(text: str = "go", message_id: str = "m1") -> Message:
    return Message(messageId=message_id, role="ROLE_USER", parts=(Part(text=text),), taskId="p", contextId="c")


def agent(text: str, message_id: str = "a1") -> Message:
    return Message(messageId=message_id, role="ROLE_AGENT", parts=(Part(text=text),))


def status(state: TaskState, message: Message | None = None) -> PlanStatusUpdated:
    return PlanStatusUpdated(taskId="p", contextId="c", status=TaskStatus(state=state, message=message, timestamp=NOON))


def artifact(*texts: str, key: str = "a", append: bool = False, last: bool = False) -> PlanArtifactUpdated:
    made = Artifact(artifactId=key, parts=tuple(Part(text=one) for one in texts))
    return PlanArtifactUpdated(taskId="p", contextId="c", artifact=made, append=append or None, lastChunk=last or None)


def folded(*decisions: Any, plan: Plan | None = None) -> Plan:
    for decided in decisions:
        assert not isinstance(decided, Problem), decided
        for event in decided:
            plan = domain.evolve(plan, event)
    assert plan is not None
    return plan


def begun(execution: int = 100) -> Plan:
    return folded(domain.start(None, message=user(), execution=execution, metadata={"k": "v"}, now=NOON))


def code_of(decision: domain.Decision) -> ErrorCode:
    assert isinstance(decision, Problem)
    return decision.code


def test_a_plan_begins_with_the_users_message_and_its_requests_metadata_once() -> None:
    task = domain.task(begun())
    assert [one["messageId"] for one in task["history"]] == ["m1"]
    assert (task["status"]["state"], task["metadata"]) == ("TASK_STATE_SUBMITTED", {"k": "v"})
    assert "message" not in task["status"]
    assert domain.start(begun(), message=user(), execution=200, metadata=None, now=NOON) == ()


def test_the_agents_word_is_with_its_status_until_the_next_one_then_in_the_history() -> None:
    plan = folded([status(TaskState.WORKING, agent("one"))], plan=begun())
    assert [one.messageId for one in plan.history] == ["m1"]
    assert plan.status.message == agent("one")
    plan = folded([status(TaskState.WORKING, agent("two", "a2"))], plan=plan)
    assert [one.messageId for one in plan.history] == ["m1", "a1"]


def test_an_artifact_grows_by_append_and_is_replaced_without() -> None:
    plan = folded(domain.publish(begun(), artifact("1")), plan=begun())
    plan = folded(domain.publish(plan, artifact("2", append=True, last=True)), plan=plan)
    assert [part.text for part in plan.artifacts[0].parts] == ["1", "2"]
    assert code_of(domain.publish(plan, artifact("3", append=True))) is ErrorCode.INVALID_EVENT
    plan = folded(domain.publish(plan, artifact("new")), plan=plan)
    assert [part.text for part in plan.artifacts[0].parts] == ["new"]
    assert code_of(domain.publish(plan, artifact("x", key="b", append=True))) is ErrorCode.INVALID_EVENT


def test_an_earlier_execution_is_not_heard_any_more() -> None:
    plan = folded(domain.take_over(begun(100), execution=101, now=NOON), plan=begun(100))
    told = status(TaskState.WORKING)
    assert code_of(domain.publish(plan, told, execution=100)) is ErrorCode.PLAN_SUPERSEDED
    assert domain.publish(plan, told, execution=101) == (told,)
    assert domain.publish(plan, told) == (told,)


def test_an_executors_own_metadata_takes_no_plan_over() -> None:
    plan = begun(1000)
    told = status(TaskState.WORKING).model_copy(update={"metadata": {"execution": 5000, "released": 1000, "mine": 1}})
    decided = domain.publish(plan, told, execution=1000)
    after = folded(decided, plan=plan)
    assert (after.execution, after.losses, after.released) == (1000, 0, False)
    assert not isinstance(decided, Problem)
    assert [one.model_dump()["metadata"] for one in decided] == [{"mine": 1}]


def test_a_plan_is_taken_up_again_three_times_and_then_fails() -> None:
    plan = begun(100)
    for number in range(3):
        plan = folded(domain.take_over(plan, execution=101 + number, now=NOON), plan=plan)
    assert plan.losses == 3
    decided = domain.take_over(plan, execution=104, now=NOON)
    assert not isinstance(decided, Problem)
    assert [type(one) for one in decided] == [PlanError, PlanStatusUpdated]
    assert folded(decided, plan=plan).status.state is TaskState.FAILED


def test_what_is_given_back_in_order_is_no_loss_and_a_new_turn_forgets_losses() -> None:
    plan = folded(domain.take_over(begun(100), execution=101, now=NOON), plan=begun(100))
    assert plan.losses == 1
    plan = folded(domain.release(plan, execution=101, now=NOON), plan=plan)
    plan = folded(domain.take_over(plan, execution=102, now=NOON), plan=plan)
    assert (plan.losses, plan.released) == (1, False)
    plan = folded([status(TaskState.INPUT_REQUIRED)], plan=plan)
    plan = folded(domain.go_on(plan, message=user("more", "m2"), execution=200, now=NOON), plan=plan)
    assert (plan.losses, plan.execution, plan.asked) == (0, 200, user("more", "m2"))


def test_an_error_is_told_as_a_word_of_the_agent_and_changes_no_state() -> None:
    error = PlanError(taskId="p", contextId="c", code="slow", message="It is slow.", retryable=True)
    plan = folded([status(TaskState.INPUT_REQUIRED)], [error], plan=begun())
    assert plan.status.state is TaskState.INPUT_REQUIRED
    assert plan.status.message is not None
    assert plan.status.message.parts[0].text == "It is slow."


def test_history_is_the_latest_messages_and_as_long_as_was_asked() -> None:
    plan = begun()
    for number in range(150):
        plan = folded([status(TaskState.WORKING, agent("x", f"a{number}"))], plan=plan)
    assert len(plan.history) == domain.MOST_MESSAGES
    assert plan.history[-1].messageId == "a148"
    assert [one["messageId"] for one in domain.task(plan, history_length=2)["history"]] == ["a147", "a148"]
    assert "history" not in domain.task(plan, history_length=0)
    assert len(domain.task(plan, history_length=10**6)["history"]) == domain.MOST_MESSAGES


def test_what_is_too_large_is_refused_with_what_to_do() -> None:
    big = "x" * (domain.LARGEST_EVENT_BYTES + 1)
    assert code_of(domain.publish(begun(), status(TaskState.WORKING, agent(big)))) is ErrorCode.MESSAGE_TOO_LARGE
    assert code_of(domain.publish(begun(), artifact(big))) is ErrorCode.MESSAGE_TOO_LARGE
    plan = begun()
    for number in range(3):
        plan = folded(domain.publish(plan, artifact("x" * 120_000, key=f"a{number}")), plan=plan)
    assert code_of(domain.publish(plan, artifact("x" * 120_000, key="a9"))) is ErrorCode.PLAN_FULL


def test_a_plan_has_a_most_of_events_and_can_still_end() -> None:
    full = Plan(plan_id="p", context_id="c", status=begun().status, events=domain.MOST_EVENTS)
    assert code_of(domain.publish(full, status(TaskState.WORKING))) is ErrorCode.PLAN_FULL
    assert code_of(domain.publish(full, artifact("x"))) is ErrorCode.PLAN_FULL
    assert not isinstance(domain.publish(full, status(TaskState.COMPLETED)), Problem)


def test_what_is_of_another_context_or_of_no_plan_is_refused() -> None:
    other = status(TaskState.WORKING).model_copy(update={"contextId": "other"})
    assert code_of(domain.publish(begun(), other)) is ErrorCode.INVALID_EVENT
    for decided in (
        domain.publish(None, other),
        domain.cancel(None, now=NOON),
        domain.go_on(None, message=user(), execution=1, now=NOON),
    ):
        assert code_of(decided) is ErrorCode.NOT_FOUND
    assert domain.evolve(None, artifact("x")) is None


class AnyPlan(RuleBasedStateMachine):
    """Whatever is tried: terminal is terminal, executions grow, and a task fits one message."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: Plan | None = None
        self.events: list[Any] = []
        self.number = 0
        self.now = NOON

    def do(self, decided: domain.Decision) -> None:
        self.now += timedelta(seconds=1)
        was_over = self.plan is not None and self.plan.is_over
        if isinstance(decided, Problem):
            return
        assert not (was_over and decided)
        for event in decided:
            assert domain.size_of(event) <= domain.LARGEST_EVENT_BYTES
            self.plan = domain.evolve(self.plan, event)
            self.events.append(event)

    def fresh(self) -> int:
        self.number += 1
        return self.number

    @rule(size=st.sampled_from([1, 50_000]))
    def start(self, size: int) -> None:
        message = user("x" * size, "m0")
        self.do(domain.start(self.plan, message=message, execution=self.fresh() * 100, metadata=None, now=self.now))

    @rule(state=st.sampled_from(list(TaskState)), size=st.sampled_from([0, 10, 90_000]))
    def say(self, state: TaskState, size: int) -> None:
        word = agent("x" * size, f"a{self.fresh()}") if size else None
        self.do(domain.publish(self.plan, status(state, word), execution=self.plan.execution if self.plan else None))

    @rule(key=st.sampled_from("ab"), append=st.booleans(), last=st.booleans(), size=st.sampled_from([1, 150_000]))
    def make(self, key: str, append: bool, last: bool, size: int) -> None:
        self.do(domain.publish(self.plan, artifact("x" * size, key=key, append=append, last=last)))

    @rule()
    def go_on(self) -> None:
        number = self.fresh()
        self.do(domain.go_on(self.plan, message=user("y", f"m{number}"), execution=number * 100, now=self.now))

    @rule()
    def lose(self) -> None:
        execution = self.plan.execution + 1 if self.plan else 1
        self.do(domain.take_over(self.plan, execution=execution, now=self.now))

    @rule()
    def give_back(self) -> None:
        self.do(domain.release(self.plan, execution=self.plan.execution if self.plan else 0, now=self.now))

    @precondition(lambda self: len(self.events) > 5)
    @rule()
    def cancel(self) -> None:
        self.do(domain.cancel(self.plan, now=self.now))

    @precondition(lambda self: len(self.events) > 5)
    @rule()
    def fail(self) -> None:
        self.do(domain.fail(self.plan, code="e", message="m", now=self.now))

    @invariant()
    def only_the_last_event_is_terminal(self) -> None:
        ends = [isinstance(one, PlanStatusUpdated) and one.status.state.is_terminal for one in self.events]
        assert not any(ends[:-1])
        assert (self.plan is not None and self.plan.is_over) is bool(ends and ends[-1])

    @invariant()
    def its_task_fits_one_message_and_what_follows_the_end_changes_nothing(self) -> None:
        if self.plan is not None:
            assert len(json.dumps(domain.task(self.plan), ensure_ascii=False).encode()) < LARGEST_ANSWER
            if self.plan.is_over:
                assert domain.evolve(self.plan, status(TaskState.WORKING)) == self.plan


TestAnyPlan = AnyPlan.TestCase
