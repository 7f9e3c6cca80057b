"""Somebody with the unmodified a2a-sdk client; it runs while a step waits for it, and every wait has a deadline."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from a2a.client.errors import A2AClientError
from a2a.types.a2a_pb2 import CancelTaskRequest, GetTaskRequest
from a2a.utils.errors import A2AError

from tests.harness.a2aclient import Agent, Told, agent_at

WAIT_SECONDS = 15.0
Result = TypeVar("Result")


class A2aUser:
    """One client of one binding, and what it has been told."""

    def __init__(self, gateway: str, sub: str, role: str, binding: str) -> None:
        self._runner = asyncio.Runner()
        self._open = contextlib.AsyncExitStack()
        self._agent: Agent = self._run(self._open.enter_async_context(agent_at(gateway, sub, role, binding)))
        self._updates: AsyncGenerator[Told, None] | None = None
        # Everything since the plan began but the tasks that streams begin with; those are in `tasks`.
        self.told: list[Told] = []
        self.tasks: list[Told] = []

    @property
    def plan(self) -> str:
        """The plan's id."""
        return str(self.tasks[0].payload.id)

    @property
    def cursor(self) -> str:
        """After the last that was told."""
        return (self.told or self.tasks)[-1].cursor

    def ask(self, text: str) -> None:
        """Begin a plan, or go on with it; the task is told."""
        more: Any = {"task_id": self.plan} if self.tasks else {}
        self._listen(self._agent.send(text, **more))

    def subscribe(self, cursor: str | None = None) -> None:
        """Follow the plan; the task is told."""
        self._listen(self._agent.follow(self.plan, cursor))

    def _listen(self, updates: AsyncGenerator[Told, None]) -> None:
        self.drop()
        self._updates = updates
        self.tasks.append(self._run(anext(updates)))

    def next(self) -> Told | None:
        """The next that is told; None at the end of the stream."""
        assert self._updates is not None
        found = self._run(anext(self._updates, None))
        if found is not None:
            self.told.append(found)
        return found

    def rest(self) -> list[Told]:
        """Everything to the end of the stream."""
        before = len(self.told)
        while self.next() is not None:
            pass
        return self.told[before:]

    def cancel(self) -> None:
        """Cancel the plan."""
        asked = CancelTaskRequest(id=self.plan)
        self._run(self._agent.client.cancel_task(asked, context=self._agent.context()))

    def refusals(self, plan: str) -> list[str]:
        """How reading, following and cancelling a plan are refused."""

        async def refusal(call: Awaitable[object]) -> str:
            try:
                await call
            except (A2AError, A2AClientError) as error:
                return f"{type(error).__name__}: {error}"
            return "not refused"

        client, context = self._agent.client, self._agent.context()
        calls = (
            client.get_task(GetTaskRequest(id=plan), context=context),
            anext(self._agent.follow(plan)),
            client.cancel_task(CancelTaskRequest(id=plan), context=context),
        )
        return [self._run(refusal(call)) for call in calls]

    def drop(self) -> None:
        """The stream is gone."""
        if self._updates is not None:
            self._run(self._updates.aclose())
            self._updates = None

    def close(self) -> None:
        """Leave."""
        self.drop()
        self._run(self._open.aclose())
        self._runner.close()

    def _run(self, awaited: Awaitable[Result]) -> Result:
        async def within() -> Result:
            async with asyncio.timeout(WAIT_SECONDS):
                return await awaited

        return self._runner.run(within())
