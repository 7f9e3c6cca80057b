"""Tasks that run until they are cancelled, and end then; and those that a service cannot go on without.

Python 3.11's `asyncio.wait_for`, which is under each request of nats-py, drops a cancellation that
arrives together with the answer. A loop that goes on for ever would then never end, and whoever
awaits it would wait for ever.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from structlog.stdlib import BoundLogger


def is_wanted() -> bool:
    """Whether nobody has cancelled the running task, even where the cancellation itself was lost on the way."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


def kept(work: Coroutine[Any, Any, None], log: BoundLogger, on_fatal: Callable[[str], None]) -> "asyncio.Task[None]":
    """A task whose failure ends the service: `on_fatal` is told why, in one line."""

    def on_end(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("stopping", exc_info=error)
            on_fatal(str(error))

    task = asyncio.create_task(work)
    task.add_done_callback(on_end)
    return task
