"""Sessions: lint, types, tests, features, and coverage_report on request.

Each makes an environment of its own by default; `nox --no-venv` runs in the one at hand, as `task` and CI do.
"""

import os
import sys
from pathlib import Path

import nox
from nox.virtualenv import PassthroughEnv

nox.options.sessions = ["lint", "types", "tests", "features"]
nox.options.reuse_existing_virtualenvs = True

# Most tests wait for servers more than they compute; beyond a few at once the servers wait for each other.
_AT_ONCE = str(max(2, min(4, os.cpu_count() or 2)))
_PYTHON_CODE = ("contracts", "services", "tests", "tools", "noxfile.py")


def _python(session: nox.Session, *arguments: str, fine: tuple[int, ...] = (0,)) -> None:
    """Run `python …` of the session's environment."""
    here = isinstance(session.virtualenv, PassthroughEnv)
    session.run(sys.executable if here else "python", *arguments, external=here, success_codes=fine)


def _install(session: nox.Session) -> None:
    if not isinstance(session.virtualenv, PassthroughEnv):
        session.install("--require-hashes", "-r", "requirements-dev.txt")


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, layers and committed schemas."""
    _install(session)
    _python(session, "-m", "ruff", "format", "--check", *_PYTHON_CODE)
    _python(session, "-m", "ruff", "check", *_PYTHON_CODE)
    _python(session, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-logo")
    _python(session, "-m", "contracts.schemas", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    _install(session)
    _python(session, "-m", "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Unit, contract, integration and chaos tests."""
    _install(session)
    _python(session, "-m", "pytest", "-n", _AT_ONCE, *session.posargs)


@nox.session
def features(session: nox.Session) -> None:
    """The promises, as behave features."""
    _install(session)
    _python(session, "-m", "behave", "--format", "progress", "tests/features")


@nox.session
def coverage_report(session: nox.Session) -> None:
    """Tests and features under coverage; fails under the limit in pyproject.toml."""
    _install(session)
    _python(session, "-m", "coverage", "erase")
    _python(session, "-m", "coverage", "run", "-m", "pytest", "-n", _AT_ONCE, *session.posargs)
    _python(session, "-m", "coverage", "run", "-m", "behave", "--format", "progress", "tests/features")
    _python(session, "-m", "coverage", "combine", "--quiet")
    _python(session, "-m", "coverage", "xml", "--quiet", "-o", str(Path("build") / "coverage.xml"), fine=(0, 2))
    _python(session, "-m", "coverage", "report")
