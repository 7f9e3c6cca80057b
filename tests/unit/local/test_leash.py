"""A leashed command never outlives the process that holds the leash."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local import leash
from tests.harness.waiting import until

_SLEEPER = ("-c", "import time; print('up', flush=True); time.sleep(60)")
_LEASH = leash.__file__


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for yet is dead, though it has a number.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    return "Z" not in state


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


# A supervisor in a few lines: leashes a sleeper, tells its number, and waits to be killed.
_HOLDER = f"""
import os, subprocess, sys, time
reading, writing = os.pipe()
way = sys.argv[1]
script = [{_LEASH!r}] if way == "replace" else ["-c", '''
import sys
sys.path[:0] = [{str(Path(_LEASH).parents[2])!r}]
from services.local.leash import accompany
import os, subprocess
sys.exit(accompany(int(sys.argv[3]), int(sys.argv[2]), sys.argv[4:]))
''']
child = subprocess.Popen(
    [sys.executable, "-I", *script, str(os.getpid()), str(int({int(signal.SIGTERM)})), str(reading),
     sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
    pass_fds=[reading],
)
time.sleep(60)
"""


@pytest.mark.parametrize("way", ["replace", "accompany"])
async def test_the_command_ends_when_its_supervisor_is_killed(way: str) -> None:
    if way == "replace" and sys.platform != "linux":
        pytest.skip("asks the Linux kernel")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, way], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        assert holder.stdout is not None
        command = int(holder.stdout.readline())
        assert is_running(command)
        holder.kill()
        holder.wait()
        await until(lambda: not is_running(command), what="the command to end")


def test_accompany_gives_the_exit_code_of_the_command(pipe: tuple[int, int]) -> None:
    assert leash.accompany(pipe[0], signal.SIGTERM, [sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_accompany_ends_the_command_when_the_pipe_is_closed(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    assert leash.accompany(pipe[0], signal.SIGKILL, [sys.executable, *_SLEEPER]) == -signal.SIGKILL


def test_accompany_passes_a_stop_on_and_tells_it_as_a_shell_does(tmp_path: Path) -> None:
    script = tmp_path / "elsewhere.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys
            sys.path[:0] = [{str(Path(_LEASH).parents[2])!r}]
            sys.platform = "darwin"
            from services.local import leash
            sys.exit(leash.main(sys.argv[1:]))
        """)
    )
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, str(script), str(os.getpid()), "9", str(reading), sys.executable, *_SLEEPER],
        stdout=subprocess.PIPE,
        pass_fds=[reading],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
    os.close(reading)
    os.close(writing)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_command_whose_supervisor_is_gone_already_is_not_started(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    command = [sys.executable, "-c", f"open({str(mark)!r}, 'w')"]
    done = subprocess.run([sys.executable, "-I", _LEASH, "1", "9", "0", *command], check=False)
    assert (done.returncode, mark.exists()) == (1, False)
