"""Ended plans that are kept for lists: only what is over, only as it is, and never more than there is room for."""

from datetime import UTC, datetime

from contracts.events.plan_v1 import Message, Part, TaskState, TaskStatus
from services.plans.domain import Plan
from services.plans.ended import EndedPlans, Mark

NOW = datetime(2026, 11, 20, tzinfo=UTC)
MARK = Mark("0mi7c3k9", 3)


def plan(name: str, state: TaskState = TaskState.COMPLETED, text: str = "x") -> Plan:
    said = Message(messageId="m", role="ROLE_USER", parts=(Part(text=text),))
    return Plan(plan_id=name, context_id="c", status=TaskStatus(state=state, timestamp=NOW), history=(said,))


def test_what_is_over_is_kept_and_what_goes_on_is_not() -> None:
    ended = EndedPlans()
    for name, state in (("over", TaskState.FAILED), ("waits", TaskState.INPUT_REQUIRED)):
        ended.keep(name, MARK, plan(name, state))
    assert ended.get("over", MARK) == plan("over", TaskState.FAILED)
    assert ended.get("waits", MARK) is None


def test_in_another_life_or_with_other_events_it_is_another_plan() -> None:
    ended = EndedPlans()
    for other in (Mark(MARK.epoch, 4), Mark("0mi7c3kz", 3)):
        ended.keep("p", MARK, plan("p"))
        assert ended.get("p", other) is None
        assert ended.get("p", MARK) is None


def test_it_is_read_again_after_an_hour() -> None:
    now = [0.0]
    ended = EndedPlans(clock=lambda: now[0])
    ended.keep("p", MARK, plan("p"))
    now[0] = 3599
    assert ended.get("p", MARK) is not None
    now[0] = 3601
    assert ended.get("p", MARK) is None


def test_who_was_asked_for_longest_ago_goes_first_and_nothing_is_kept_that_is_too_large() -> None:
    ended = EndedPlans(most_bytes=2500)
    for name in ("a", "b"):
        ended.keep(name, MARK, plan(name, text="x" * 800))
    assert ended.get("a", MARK) is not None
    ended.keep("c", MARK, plan("c", text="x" * 800))
    assert [name for name in "abc" if ended.get(name, MARK)] == ["a", "c"]
    ended.keep("a", MARK, plan("a", text="x" * 800))
    assert [name for name in "abc" if ended.get(name, MARK)] == ["a", "c"]
    ended.keep("large", MARK, plan("large", text="x" * 100_000))
    assert ended.get("large", MARK) is None
