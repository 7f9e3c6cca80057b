"""Pages of plans: ordered by when their status became what it is, the latest first. Pure.

A page's token names the last task that was given, not a number: plans that change meanwhile move to the front, and
no page is shifted by it. A page ends early where one NATS message would not hold more.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.errors import ErrorCode, Problem, Refused
from services.plans.domain import Plan

_MOST_BYTES = 768 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """A plan, and as it is told."""

    plan: Plan
    task: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Its place: the latest status first."""
        return (f"{self.plan.status.timestamp.timestamp():020.6f}", self.plan.plan_id)


def page_of(listed: Sequence[Listed], size: int, token: str) -> tuple[list[dict[str, Any]], str]:
    """The tasks of the page after `token`, and the next one's token; empty on the last page.

    Raises:
        Refused: `invalid_parameter`: the token is none.
    """
    ordered = sorted(listed, key=lambda one: one.key, reverse=True)
    if token:
        after = _read(token)
        ordered = [one for one in ordered if one.key < after]
    tasks: list[dict[str, Any]] = []
    room = _MOST_BYTES
    for one in ordered[:size]:
        room -= len(json.dumps(one.task, ensure_ascii=False).encode())
        if tasks and room < 0:
            break
        tasks.append(one.task)
    is_last = len(tasks) == len(ordered)
    return tasks, "" if is_last else _token(ordered[len(tasks) - 1].key)


def _token(key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("|".join(key).encode()).decode()


def _read(token: str) -> tuple[str, str]:
    try:
        moment, bar, plan_id = base64.urlsafe_b64decode(token.encode()).decode().partition("|")
    except (binascii.Error, UnicodeError) as error:
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, "page_token: not one of ours")) from error
    if not bar:
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, "page_token: not one of ours"))
    return moment, plan_id
