"""A loop ends when it is told to, even where the telling was swallowed."""

import asyncio
import contextlib

from services.chassis.tasks import is_wanted


async def test_a_loop_ends_though_something_below_it_swallowed_the_cancellation() -> None:
    rounds = 0

    async def loop() -> None:
        nonlocal rounds
        while is_wanted():
            rounds += 1
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    running = asyncio.create_task(loop())
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(5):
        await running
    assert rounds == 1
