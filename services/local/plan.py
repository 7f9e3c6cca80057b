"""A made-up plan: what a buyer asks of its agent, by A2A over the gateway. Pure.

One in three names no price, is asked for it, and says it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.principal import BUYER
from services.local.deal import Request, Story

_VERSION = "A2A-Version=1.0"
_SEND = f"/a2a/message:send?{_VERSION}"
_OVER = frozenset(f"TASK_STATE_{word}" for word in ("COMPLETED", "FAILED", "CANCELED", "REJECTED"))


@dataclass(frozen=True, slots=True)
class MadeUpPlan:
    """Who wants what for how much; `key` makes its requests unlike any other's."""

    key: str
    buyer: str
    good: str
    euros: int
    says_price: bool

    def story(self) -> Story:
        """Its requests, in order."""
        wish = f"{self.good}, at most {self.euros} EUR" if self.says_price else self.good
        task = (yield self._say("wish", wish))["task"]
        while not self.says_price and task["status"]["state"] not in _OVER:
            task = yield Request("gateway", _task(task["id"]), BUYER, self.buyer, self._key("ask"), None)
            if task["status"]["state"] != "TASK_STATE_INPUT_REQUIRED":
                continue
            yield self._say("price", f"{self.euros} EUR", task["id"])
            return

    def _say(self, name: str, text: str, task_id: str | None = None) -> Request:
        named = {} if task_id is None else {"taskId": task_id}
        message = {"messageId": self._key(name), "role": "ROLE_USER", "parts": [{"text": text}], **named}
        body: Mapping[str, Any] = {"message": message, "configuration": {"returnImmediately": True}}
        return Request("gateway", _SEND, BUYER, self.buyer, self._key(name), body)

    def _key(self, name: str) -> str:
        return f"{self.key}-{name}"


def _task(task_id: str) -> str:
    return f"/a2a/tasks/{task_id}?{_VERSION}"
