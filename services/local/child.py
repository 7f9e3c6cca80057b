"""One child process: started, watched until ready, started again when it dies.

A wrong setting and a child that never becomes ready are failures of the whole system and
are raised; a child that served and then died is restarted for as long as the system runs.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.local.logfile import LogFile
from services.local.readiness import is_ready

# A child that dies this often in a row before it was ready once will not become so.
MOST_FAILED_STARTS = 4
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0
# A child that ran this long did not die of what killed it before.
_SETTLED_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LEASH = str(Path(__file__).with_name("leash.py"))


class ChildFailed(Exception):
    """The system cannot run with this child; one line, and the exit code that fits."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a child is: how it is started, when it is ready, how long it may take to end."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    # None: ready once started.
    ready_url: str | None = None
    # Open files that it inherits under their numbers.
    files: tuple[int, ...] = ()
    # The exit code by which it says that a setting is wrong; no other start would help then.
    refusal_code: int | None = None
    stop_seconds: float = 1.0
    # What the child gets where the supervisor dies without stopping it.
    death_signal: signal.Signals = signal.SIGKILL


class Child:
    """A program kept running."""

    def __init__(self, program: Program, log: LogFile, *, leash_pipe: int, tell: Callable[[str], None]) -> None:
        self.program = program
        self.log = log
        # Set from the child's first readiness to its death.
        self.ready = asyncio.Event()
        self._leash_pipe = leash_pipe
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        # Where in the log the present process began to write.
        self._log_start = 0
        # Deaths since the child last ran for a while, and whether it ever was ready.
        self._deaths = 0
        self._served = False

    async def keep(self) -> None:
        """Run it until cancelled, again and again; the process is left to `end`.

        Raises:
            ChildFailed: it refuses a setting, or dies before it has ever been ready.
        """
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._process = await self._start()
            code = await self._watch(self._process)
            self.ready.clear()
            self._deaths = 1 if loop.time() - began > _SETTLED_SECONDS else self._deaths + 1
            self._judge(code)
            delay = min(_FIRST_DELAY_SECONDS * 2 ** (self._deaths - 1), _LONGEST_DELAY_SECONDS)
            self._tell(f"{self.program.name} ended with {_cause(code)}; starting it again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def end(self) -> None:
        """Stop it: SIGTERM, and SIGKILL where its allowance is not enough. Idempotent."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self.program.stop_seconds):
                await process.wait()
        except TimeoutError:
            self._tell(f"{self.program.name} did not end within {self.program.stop_seconds:.1f} s and is killed")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End it at once, with whatever it started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _start(self) -> asyncio.subprocess.Process:
        program = self.program
        self._log_start = self.log.size()
        leash = (sys.executable, "-I", _LEASH, str(os.getpid()), str(int(program.death_signal)), str(self._leash_pipe))
        with self.log.writer() as log:
            return await asyncio.create_subprocess_exec(
                *leash,
                *program.command,
                env=program.environment,
                pass_fds=(*program.files, self._leash_pipe),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to handle, in its order
            )

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        """Wait for the process to end, and meanwhile for it to be ready."""
        async with asyncio.TaskGroup() as tasks:
            readiness = tasks.create_task(self._become_ready())
            code = await process.wait()
            readiness.cancel()
        return code

    async def _become_ready(self) -> None:
        if self.program.ready_url is not None:
            while not await is_ready(self.program.ready_url):  # noqa: ASYNC110  # another process: only asking tells
                await asyncio.sleep(_POLL_SECONDS)
        if self._served and self._deaths:
            self._tell(f"{self.program.name} runs again")
        self._served = True
        self.ready.set()

    def _judge(self, code: int) -> None:
        """Raise where another start would not help."""
        name = self.program.name
        said = self.log.lines(self._log_start)
        if code == self.program.refusal_code:
            errors = [line for line in said if line.startswith("error: ")]
            raise ChildFailed(errors[-1].removeprefix("error: ") if errors else f"{name}: wrong setting", code)
        if not self._served and self._deaths >= MOST_FAILED_STARTS:
            last = said[-1] if said else "it said nothing"
            raise ChildFailed(f"{name} does not start ({_cause(code)}): {last[:500]}; see {self.log.path}", 1)


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"code {code}"
