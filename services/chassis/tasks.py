"""Tasks that run until they are cancelled, and end then.

Python 3.11's `asyncio.wait_for`, which is under each request of nats-py, drops a cancellation that
arrives together with the answer. A loop that goes on for ever would then never end, and whoever
awaits it would wait for ever.
"""

import asyncio


def is_wanted() -> bool:
    """Whether nobody has cancelled the running task, even where the cancellation itself was lost on the way."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
