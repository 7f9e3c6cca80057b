"""Waiting for a condition, with a deadline: what tests do where they would else sleep and hope."""

import asyncio
import inspect
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

_LOOK_AGAIN_SECONDS = 0.01


async def until(condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "") -> Any:
    """The first truthy value of `condition`, which may be asynchronous, asked every 10 ms.

    Raises:
        AssertionError: it did not hold within `seconds`; tells `what` was awaited and the last value.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition} (last: {value!r})")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def freeze(process: "subprocess.Popen[bytes]") -> None:
    """Stop a child where it stands; it has stopped when this returns, which the signal alone does not promise."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
