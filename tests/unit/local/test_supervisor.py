"""The supervisor starts in stages, stops in reverse, and leaves no process behind."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.local import supervisor as module
from services.local.child import Child, ChildFailed, Program
from services.local.logfile import LogFile
from services.local.supervisor import Stage, Supervisor
from tests.harness.waiting import until

Make = Callable[..., Child]

# Tells its beginning and, on SIGTERM, its end in a file that all children share.
PROGRAM = """
import pathlib, signal, sys, time
name, journal = sys.argv[1:3]
def tell(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what}\\n")
def end(*_):
    tell("ends")
    sys.exit()
signal.signal(signal.SIGTERM, end)
tell("begins")
time.sleep(60)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def make(tmp_path: Path, journal: Path) -> Make:
    reading, _ = os.pipe()

    def makes(name: str, code: str = PROGRAM, ready_url: str | None = None) -> Child:
        program = Program(
            name=name,
            command=(sys.executable, "-c", code, name, str(journal)),
            environment=os.environ,
            ready_url=ready_url,
            refusal_code=2,
            stop_seconds=5,
        )
        return Child(program, LogFile(tmp_path / f"{name}.log"), leash_pipe=reading, tell=print)

    return makes


def running(children: list[Child]) -> list[str]:
    return [c.program.name for c in children if c._process is not None and c._process.returncode is None]


async def test_children_stop_in_the_reverse_order_of_their_stages(make: Make, journal: Path) -> None:
    children = [make("log"), make("edge"), make("door")]
    supervisor = Supervisor([Stage([children[0]]), Stage(children[1:]), Stage([])])
    run = asyncio.create_task(supervisor.run(lambda: None))
    await until(lambda: journal.read_text().count("begins") == 3, what="all to begin")
    supervisor.stop()
    await asyncio.wait_for(run, 10)
    ends = journal.read_text().split("\n")[3:-1]
    assert (sorted(ends[:2]), ends[2:]) == (["door ends", "edge ends"], ["log ends"])
    assert running(children) == []


async def test_on_ready_is_called_before_the_last_stage(make: Make, journal: Path) -> None:
    ready: list[list[str]] = []
    children = [make("log"), make("traffic")]
    supervisor = Supervisor([Stage([children[0]]), Stage([children[1]])])
    run = asyncio.create_task(supervisor.run(lambda: ready.append(running(children))))
    await until(lambda: journal.read_text().count("begins") == 2, what="both to begin")
    assert ready == [["log"]]
    supervisor.stop()
    await asyncio.wait_for(run, 10)


async def test_one_wrong_setting_ends_everything(make: Make) -> None:
    children = [make("log"), make("edge", "import sys; sys.exit('error: A2A_X: no') if 0 else sys.exit(2)")]
    with pytest.raises(ChildFailed, match="edge: wrong setting"):
        await asyncio.wait_for(Supervisor([Stage(children)]).run(lambda: None), 10)
    assert running(children) == []


async def test_a_child_that_is_not_ready_in_time_ends_everything(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.1)
    child = make("edge", ready_url="http://127.0.0.1:9/readyz")
    with pytest.raises(ChildFailed, match="edge was not ready after 0 s; see "):
        await asyncio.wait_for(Supervisor([Stage([child])]).run(lambda: None), 10)
    assert running([child]) == []


async def test_a_second_stop_waits_for_nobody(make: Make, journal: Path) -> None:
    deaf = PROGRAM.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    child = make("edge", deaf)
    supervisor = Supervisor([Stage([child])])
    run = asyncio.create_task(supervisor.run(lambda: None))
    await until(lambda: "begins" in journal.read_text(), what="it to begin")
    began = asyncio.get_running_loop().time()
    supervisor.stop()
    await asyncio.sleep(0)
    supervisor.stop()
    await asyncio.wait_for(run, 10)
    assert asyncio.get_running_loop().time() - began < 4


async def test_logs_are_bounded_while_the_system_runs(
    make: Make, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOG_CHECK_SECONDS", 0.01)
    monkeypatch.setattr("services.local.logfile.LARGEST_BYTES", 10)
    child = make("edge", "print('a line that is too long', flush=True); import time; time.sleep(60)")
    supervisor = Supervisor([Stage([child])])
    run = asyncio.create_task(supervisor.run(lambda: None))
    await until(lambda: child.log.path.with_name("edge.log.1").exists(), what="the log to be cut")
    supervisor.stop()
    await asyncio.wait_for(run, 10)


async def test_what_is_done_meanwhile_is_over_before_the_next_stage(make: Make, journal: Path) -> None:
    def note(what: str) -> None:
        with journal.open("a") as file:
            file.write(f"{what}\n")

    async def meanwhile() -> None:
        note("meanwhile")

    supervisor = Supervisor([Stage([], meanwhile), Stage([make("edge")])])
    run = asyncio.create_task(supervisor.run(lambda: note("ready")))
    await until(lambda: "begins" in journal.read_text(), what="the second stage")
    supervisor.stop()
    await asyncio.wait_for(run, 10)
    assert journal.read_text().splitlines()[:2] == ["meanwhile", "ready"]
