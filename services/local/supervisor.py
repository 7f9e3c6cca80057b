"""The supervisor: starts the children stage by stage, keeps them running, stops the stages in the reverse order.

Ends for one of two reasons: it was told to stop, or a child cannot run at all. Either way every
process is gone when `run` returns.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from services.local.child import Child, ChildFailed

START_SECONDS = 30.0
_LOG_CHECK_SECONDS = 10.0


class _ToldToStop(Exception):
    """Leaves the task group when a stop was asked for."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Children that start together and stop together, and what is to be done while they start."""

    children: Sequence[Child]
    meanwhile: Callable[[], Awaitable[None]] | None = None


class Supervisor:
    """All children of one system, in stages; a stage begins when the one before it is ready."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for an orderly end; asked again, kill what is left and wait for nobody."""
        if self._stopping.is_set():
            for child in self._children():
                child.kill()
        self._stopping.set()

    def _children(self) -> Iterator[Child]:
        """All children, those first that are stopped first."""
        for stage in reversed(self._stages):
            yield from stage.children

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Run until `stop`; `on_ready` is called before the last stage, when all others are ready.

        Raises:
            ChildFailed: a child cannot run; everything else has been stopped.
        """
        failures: list[ChildFailed] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wait_for_stop())
                tasks.create_task(self._bound_logs())
                for stage in self._stages:
                    if stage is self._stages[-1]:
                        on_ready()
                    for child in stage.children:
                        tasks.create_task(child.keep())
                    if stage.meanwhile is not None:
                        await stage.meanwhile()
                    await _all_ready(stage.children)
        except* _ToldToStop:
            pass
        except* ChildFailed as group:
            failures += [error for error in group.exceptions if isinstance(error, ChildFailed)]
        finally:
            for stage in reversed(self._stages):
                await asyncio.gather(*(child.end() for child in stage.children))
        if failures:
            raise failures[0]

    async def _wait_for_stop(self) -> None:
        await self._stopping.wait()
        raise _ToldToStop

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            for child in self._children():
                child.log.bound()


async def _all_ready(stage: Sequence[Child]) -> None:
    for child in stage:
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.ready.wait()
        except TimeoutError:
            name, log = child.program.name, child.log.path
            raise ChildFailed(f"{name} was not ready after {START_SECONDS:.0f} s; see {log}", 1) from None
