"""Pages of plans."""

from datetime import timedelta

import pytest

from contracts.errors import Refused
from services.plans import domain
from services.plans.domain import Plan
from services.plans.listing import Listed, page_of
from tests.unit.plans.test_domain import NOON, begun


def listed(number: int, padding: int = 0) -> Listed:
    status = begun().status.model_copy(update={"timestamp": NOON + timedelta(seconds=number)})
    plan = Plan(plan_id=f"p{number}", context_id="c", status=status)
    return Listed(plan, {**domain.task(plan), "metadata": {"x": "x" * padding}})


def test_every_plan_is_on_one_page_though_others_change_meanwhile() -> None:
    plans = [listed(number) for number in range(7)]
    first, token = page_of(plans, 3, "")
    assert [one["id"] for one in first] == ["p6", "p5", "p4"]
    changed = [one for one in plans if one.plan.plan_id != "p0"] + [listed(9)]
    second, token = page_of(changed, 3, token)
    assert ([one["id"] for one in second], token) == (["p3", "p2", "p1"], "")


def test_a_page_ends_where_a_message_would_not_hold_more_and_holds_one_at_least() -> None:
    plans = [listed(number, padding=500_000) for number in range(3)]
    seen, token = [], ""
    for _ in plans:
        page, token = page_of(plans, 100, token)
        seen += [one["id"] for one in page]
    assert (seen, token) == (["p2", "p1", "p0"], "")


@pytest.mark.parametrize("token", ["!", "eA==", "ü"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(Refused):
        page_of([listed(1)], 1, token)
