"""Executors that do what the plan's own words say, for tests of what executes them.

The text is words: `say N` tells N status updates, `make N` N chunks of an artifact, `pause S` sleeps, `hang` goes on
only when it is executed again, `ask` waits for input, `fail` raises, `quit` exits, `stop` returns in the middle,
`problem` tells an error and goes on, `die` kills the process; at the end the plan is completed.
"""

import asyncio
import os
import signal
from collections import deque
from typing import ClassVar

from contracts.events.plan_v1 import Part, TaskState
from services.plans.executor import PlanContext
from services.plans.queue import A2aEventQueue


class Scripted:
    """Does what it is told, and remembers what it was called for."""

    # Plans, in the order in which they were executed; of all scripted agents of this process, the latest ones.
    executed: ClassVar[deque[PlanContext]] = deque(maxlen=300)
    cancelled: ClassVar[deque[str]] = deque(maxlen=300)

    async def execute(self, context: PlanContext, queue: A2aEventQueue) -> None:
        self.executed.append(context)
        words = context.text.split()
        while words:
            if await self._act(words.pop(0), words, context, queue):
                return
        await queue.publish(context.status(TaskState.COMPLETED, "done"))

    async def _act(self, word: str, words: list[str], context: PlanContext, queue: A2aEventQueue) -> bool:
        """Whether the turn is over."""
        match word:
            case "say":
                for number in range(int(words.pop(0))):
                    await queue.publish(context.status(TaskState.WORKING, f"word {number}"))
            case "make":
                for number in range(int(words.pop(0))):
                    chunk = context.artifact("made", [Part(text=f"{number}")], append=number > 0)
                    await queue.publish(chunk)
            case "pause":
                await asyncio.sleep(float(words.pop(0)))
            case "hang" if not context.is_again:
                await asyncio.sleep(600)
            case "hang":
                pass
            case "problem":
                await queue.publish(context.problem("hiccup", "Something is slow."))
            case "ask":
                await queue.publish(context.status(TaskState.INPUT_REQUIRED, "how many?"))
                return True
            case _:
                return _end(word)
        return False

    async def cancel(self, context: PlanContext, queue: A2aEventQueue) -> None:
        self.cancelled.append(context.plan_id)


def _end(word: str) -> bool:
    """What ends a turn otherwise than it should."""
    if word == "fail":
        raise ValueError("the agent does not know how")
    if word == "quit":
        raise SystemExit(3)
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return word == "stop"


def scripted(_: float) -> Scripted:
    """For `A2A_PLAN_EXECUTOR`."""
    return Scripted()
