"""A child is restarted when it dies, given up where that cannot help, and ended for sure."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.chassis.server import address, listen
from services.local import child as module
from services.local.child import Child, ChildFailed, Program
from services.local.logfile import LogFile
from tests.harness.waiting import until

SLEEPER = "import time; time.sleep(60)"
SERVER = """
import http.server, os, socket
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("", 0), Ok, bind_and_activate=False)
server.socket = socket.socket(fileno=int(os.environ["FD"]))
server.serve_forever()
"""

Make = Callable[..., Child]
Keeping = Callable[[Child], AbstractAsyncContextManager[asyncio.Task[None]]]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(module, "_FIRST_DELAY_SECONDS", 0.001)
    reading, _ = os.pipe()

    def makes(code: str, **fields: Any) -> Child:
        program = Program(
            name="it",
            command=(sys.executable, "-c", code),
            environment={**os.environ, **fields.pop("environment", {})},
            **fields,
        )
        return Child(program, LogFile(tmp_path / "it.log"), leash_pipe=reading, tell=told.append)

    return makes


@asynccontextmanager
async def keeping(child: Child) -> AsyncIterator[asyncio.Task[None]]:
    """The child, kept running while the block does."""
    task = asyncio.create_task(child.keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        child.kill()
        await child.end()


def pid_of(child: Child) -> int:
    assert child._process is not None
    return child._process.pid


async def test_a_child_is_ready_once_it_answers(make: Make) -> None:
    with listen("127.0.0.1", 0) as listener:
        fd = listener.fileno()
        child = make(SERVER, ready_url=f"{address(listener)}/readyz", files=(fd,), environment={"FD": str(fd)})
        async with keeping(child):
            await asyncio.wait_for(child.ready.wait(), 10)


async def test_a_killed_child_serves_again_at_the_same_address(make: Make, told: list[str]) -> None:
    with listen("127.0.0.1", 0) as listener:
        fd = listener.fileno()
        child = make(SERVER, ready_url=f"{address(listener)}/readyz", files=(fd,), environment={"FD": str(fd)})
        async with keeping(child):
            await asyncio.wait_for(child.ready.wait(), 10)
            first = pid_of(child)
            os.kill(first, signal.SIGKILL)
            await until(lambda: not child.ready.is_set(), what="its end to be seen")
            await asyncio.wait_for(child.ready.wait(), 10)
            assert pid_of(child) != first
    assert told == ["it ended with SIGKILL; starting it again in 0.0 s", "it runs again"]


async def test_a_child_that_served_is_restarted_for_ever(make: Make, told: list[str]) -> None:
    async with keeping(make("pass")) as task:
        await until(lambda: len(told) > 2 * module.MOST_FAILED_STARTS, what="many restarts")
        assert not task.done()
    assert told[0] == "it ended with code 0; starting it again in 0.0 s"


async def test_a_wrong_setting_is_told_in_the_childs_own_words(make: Make) -> None:
    code = "import sys; print('noise'); sys.stdout.flush(); print('error: A2A_X: no', file=sys.stderr); sys.exit(2)"
    async with keeping(make(code, refusal_code=2)) as task:
        with pytest.raises(ChildFailed, match=r"^A2A_X: no$") as failure:
            await asyncio.wait_for(task, 10)
    assert failure.value.exit_code == 2


async def test_a_wrong_setting_without_words_names_the_child(make: Make) -> None:
    async with keeping(make("raise SystemExit(2)", refusal_code=2)) as task:
        with pytest.raises(ChildFailed, match="it: wrong setting"):
            await asyncio.wait_for(task, 10)


@pytest.mark.parametrize(
    ("code", "said"), [("raise SystemExit('broken')", "broken"), ("import os; os._exit(3)", "nothing")]
)
async def test_a_child_that_is_never_ready_is_given_up(make: Make, told: list[str], code: str, said: str) -> None:
    child = make(code, ready_url="http://127.0.0.1:9/readyz")
    async with keeping(child) as task:
        with pytest.raises(ChildFailed, match=f"it does not start .*{said}.*it.log") as failure:
            await asyncio.wait_for(task, 10)
    assert failure.value.exit_code == 1
    assert len(told) == module.MOST_FAILED_STARTS - 1


async def test_a_child_that_ignores_the_stop_is_killed(make: Make, told: list[str]) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = make(code, stop_seconds=0.05)
    async with keeping(child) as task:
        await until(lambda: child.log.lines() == ["up"], what="it to run")
        task.cancel()
        pid = pid_of(child)
        await child.end()
        assert not Path(f"/proc/{pid}").exists()
    assert told == ["it did not end within 0.1 s and is killed"] or told == [
        "it did not end within 0.0 s and is killed"
    ]


async def test_ending_twice_or_before_the_start_is_no_error(make: Make) -> None:
    child = make(SLEEPER)
    await child.end()
    child.kill()
    async with keeping(child):
        await asyncio.wait_for(child.ready.wait(), 10)
        await child.end()
        await child.end()
