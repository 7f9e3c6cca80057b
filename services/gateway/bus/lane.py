"""A lane: needs that wait for reads of one kind; equal needs share one.

What waits is bounded, and so is how long; a need that this lane cannot settle goes onward with all that wait for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

import nats.errors
from structlog.stdlib import BoundLogger

from contracts.errors import ErrorCode, Problem
from services.chassis import jetstream
from services.chassis.direct import DirectGetFailed
from services.chassis.tasks import is_wanted
from services.gateway.bus.place import READ_SECONDS, Behind, Elsewhere
from services.gateway.bus.site import NotConnected
from services.gateway.core.replay import Answer, Need, NeedLast, NeedPage, stale

_PAUSE_SECONDS = 0.05
_FAILURES = (nats.errors.Error, NotConnected, DirectGetFailed, jetstream.JetStreamError, TimeoutError, OSError)

# Needs whose answer lies below the log and stays the same.
_IMMUTABLE = (NeedPage, NeedLast)

Done = Callable[[Answer], None]
Read = Callable[[Need], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody who waits for a read."""

    done: Done
    is_wanted: Callable[[], bool]
    # Monotonic seconds at which the answer comes too late.
    deadline: float


class Lane:
    """One queue of needs and those who read for it."""

    def __init__(self, read: Read, most: int, readers: int, log: BoundLogger, onward: "Lane | None") -> None:
        """`most` may wait; `onward`: where a need goes that `read` says is to be answered elsewhere."""
        self._read = read
        self._readers = readers
        self._log = log
        self._onward = onward
        # Who waits for what: equal needs wait for one read.
        self._waiting: dict[Need, list[_Asked]] = {}
        self._queue: asyncio.Queue[Need] = asyncio.Queue(most)

    def ask(self, need: Need, done: Done, is_wanted: Callable[[], bool]) -> None:
        """Have it read; answered by a Problem where too many wait already."""
        self._put(need, [_Asked(done, is_wanted, monotonic() + READ_SECONDS)])

    def _put(self, need: Need, asked: list[_Asked]) -> None:
        waiting = self._waiting.get(need)
        if waiting is not None:
            waiting.extend(asked)
            return
        try:
            self._queue.put_nowait(need)
        except asyncio.QueueFull:
            _tell(asked, Problem(ErrorCode.REPLAY_UNAVAILABLE, "too many replays wait", 2000))
        else:
            self._waiting[need] = asked

    async def run(self) -> None:
        """Read for ever; ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._readers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while is_wanted():
            need = await self._queue.get()
            # What changes is shared only by who asked before it was read: a cursor that came later may be newer.
            asked_before = None if isinstance(need, _IMMUTABLE) else self._waiting.pop(need)
            waiting = [asked for asked in asked_before or self._waiting[need] if asked.is_wanted()]
            if not waiting:  # they left while it stood in the queue
                self._waiting.pop(need, None)
                continue
            answer = await self._answer(need, max(asked.deadline for asked in waiting))
            asked = self._waiting.pop(need) if asked_before is None else asked_before
            if answer is not None:
                _tell(asked, answer)
            elif self._onward is not None:
                self._onward._put(need, asked)

    async def _answer(self, need: Need, deadline: float) -> Answer | None:
        """Read until it succeeds or the deadline is over, which was set when it was asked; None: it goes onward."""
        if monotonic() >= deadline:
            return stale("too many replays wait")
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(deadline - monotonic(), 0.001)):
                    return await self._read(need)
            except Elsewhere:
                return None
            except (*_FAILURES, Behind) as error:
                if monotonic() + _PAUSE_SECONDS >= deadline:
                    self._log.warning(
                        "history_read_failed", need=type(need).__name__, error=str(error) or type(error).__name__
                    )
                    return stale("the event store does not answer in time")
            await asyncio.sleep(_PAUSE_SECONDS)


def _tell(asked: list[_Asked], answer: Answer) -> None:
    for one in asked:
        # In a turn of its own, so that a fault in one connection stays with it.
        asyncio.get_running_loop().call_soon(one.done, answer)
