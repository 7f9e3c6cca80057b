"""Make `.venv` hold exactly what a requirements file says, and do nothing where it does already.

Runs on any Python 3, so that an old one is told so in a sentence rather than by a syntax error.
"""

import hashlib
import os
import subprocess
import sys

NEEDED = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")


class CannotSetUp(Exception):
    """What to tell, in one line."""


def require_version(version: "list[int]", whose: str) -> None:
    """Raise where `version` is too old."""
    if tuple(version[:2]) < NEEDED:
        wanted, found = ".".join(map(str, NEEDED)), ".".join(map(str, version[:3]))
        raise CannotSetUp(
            "Python %s or newer is needed, %s is %s; install a newer one and make the environment with it: "
            "rm -rf .venv && python%s -m venv .venv" % (wanted, whose, found, wanted)
        )


def require_venv() -> None:
    """Make `.venv` where it is missing; raise where it cannot be used."""
    if not os.path.exists(PYTHON):
        require_version(list(sys.version_info[:3]), "this")
        if not os.access(VENV if os.path.isdir(VENV) else ROOT, os.W_OK):
            raise CannotSetUp("%s cannot be written; make it writable for %s" % (ROOT, user()))
        if subprocess.call([sys.executable, "-m", "venv", VENV]) != 0:
            raise CannotSetUp("Python cannot make an environment here; on Debian and Ubuntu: apt install python3-venv")
    try:
        found = subprocess.check_output([PYTHON, "-c", "import sys; print(*sys.version_info[:3])"])
    except (OSError, subprocess.CalledProcessError):
        raise CannotSetUp(".venv does not work any more; remove it and run this again: rm -rf .venv") from None
    require_version([int(part) for part in found.split()], "the one in .venv")


def user() -> str:
    """Who runs this, for a message."""
    return os.environ.get("USER") or "you"


def stamp_of(requirements: str) -> str:
    """The text that says: this file, these bytes, are installed."""
    with open(os.path.join(ROOT, requirements), "rb") as file:
        return "%s %s\n" % (requirements, hashlib.sha256(file.read()).hexdigest())


def stamps() -> str:
    """The requirements files that `.venv` holds, as they were."""
    try:
        with open(os.path.join(VENV, "installed.txt")) as file:
            return file.read()
    except OSError:
        return ""


def install(requirements: str, stamp: str) -> None:
    """Install what `requirements` says, by hash, and note it."""
    if not os.access(VENV, os.W_OK):
        raise CannotSetUp(".venv cannot be written; make it writable for %s, or remove it" % user())
    print("installing %s into .venv ..." % requirements, flush=True)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*command, "--require-hashes", "-r", requirements], cwd=ROOT) != 0:
        raise CannotSetUp("the packages could not be installed (pip says why above)")
    # A larger set holds the smaller one with the same versions; anything else noted before may be gone now.
    with open(os.path.join(VENV, "installed.txt"), "w") as file:
        file.write(stamp + (stamp_of("requirements.txt") if requirements == "requirements-dev.txt" else ""))


def main(requirements: str) -> int:
    """Set up; 1 where it cannot be done, 130 after a Ctrl-C."""
    try:
        require_venv()
        stamp = stamp_of(requirements)
        if stamp not in stamps():
            install(requirements, stamp)
    except CannotSetUp as error:
        print("error: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # nothing is noted yet, so the next run installs again
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
