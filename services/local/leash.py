"""The leash: a command that does not outlive the process that started it, however that one ends.

`python leash.py <supervisor's pid> <signal> <pipe> command …`. On Linux the kernel is asked to send the
signal when the supervisor dies, and the command takes this process's place. Elsewhere this process
stays between the two: it watches a pipe that only the supervisor holds open, and passes signals on.
Imports nothing of the project, so that it starts in milliseconds.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 0.05


def replace(parent: int, death_signal: int, command: list[str]) -> None:
    """Become `command`, to be sent `death_signal` by the kernel when `parent` dies (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before we had asked
        raise SystemExit(1)
    os.execv(command[0], command)  # noqa: S606


def accompany(pipe: int, death_signal: int, command: list[str]) -> int:
    """Run `command` until it ends or the other end of `pipe` is closed; its exit code (anywhere)."""
    child = subprocess.Popen(command, close_fds=False)

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while child.poll() is None:
        readable, _, _ = select.select([pipe], [], [], _WATCH_SECONDS)
        if readable:  # nothing is ever written: this is the end of the supervisor
            child.send_signal(death_signal)
            return child.wait()
    return child.returncode


def main(arguments: list[str]) -> int:
    """Run the command by the way this system offers."""
    parent, death_signal, pipe = map(int, arguments[:3])
    command = arguments[3:]
    if sys.platform == "linux":
        replace(parent, death_signal, command)
    code = accompany(pipe, death_signal, command)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
