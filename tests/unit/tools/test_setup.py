"""`task setup` installs once, again when the requirements change, and says in one line why it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import setup


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with an environment already made, and pip's calls noted instead of made."""
    for file in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / file).write_text("a==1\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(setup, "ROOT", str(tmp_path))
    monkeypatch.setattr(setup, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(setup, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    made: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        made.append(command)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    return made


def test_it_installs_by_hash_and_only_once(checkout: Path, calls: list[list[str]]) -> None:
    assert setup.main("requirements-dev.txt") == 0
    assert calls[0][-3:] == ["--require-hashes", "-r", "requirements-dev.txt"]
    assert setup.main("requirements-dev.txt") == 0
    assert len(calls) == 1


def test_the_larger_set_holds_the_smaller_but_not_the_other_way(checkout: Path, calls: list[list[str]]) -> None:
    setup.main("requirements.txt")
    setup.main("requirements-dev.txt")
    setup.main("requirements.txt")
    assert [call[-1] for call in calls] == ["requirements.txt", "requirements-dev.txt"]


def test_changed_requirements_are_installed(checkout: Path, calls: list[list[str]]) -> None:
    setup.main("requirements.txt")
    (checkout / "requirements.txt").write_text("a==2\n")
    setup.main("requirements.txt")
    assert len(calls) == 2


def test_an_old_python_is_told_what_is_needed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert setup.main("requirements.txt") == 1
    assert capsys.readouterr().err.startswith("error: Python 3.11 or newer is needed, this is 3.9.2; ")


def test_an_environment_of_an_old_python_is_told(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "check_output", lambda _: b"3 10 4\n")
    assert setup.main("requirements.txt") == 1
    assert "the one in .venv is 3.10.4" in capsys.readouterr().err


def test_an_environment_that_cannot_be_written_is_told(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tools.setup.os.access", lambda *_: False)
    assert setup.main("requirements.txt") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: .venv cannot be written; ")
    assert error.count("\n") == 1


def test_a_broken_environment_is_told(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").write_text("not a program")
    assert setup.main("requirements.txt") == 1
    assert "rm -rf .venv" in capsys.readouterr().err


def test_a_missing_environment_is_made(checkout: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    monkeypatch.setattr(subprocess, "check_output", lambda _: b"3 11 7\n")
    assert setup.main("requirements.txt") == 0
    assert calls[0] == [sys.executable, "-m", "venv", str(checkout / ".venv")]


def test_packages_that_cannot_be_installed_are_not_noted(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: 1)
    assert setup.main("requirements.txt") == 1
    assert "could not be installed" in capsys.readouterr().err
    assert setup.stamps() == ""


def test_an_interrupted_installation_ends_without_a_word_and_is_begun_again(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "call", interrupted)
        assert setup.main("requirements.txt") == 130
    assert capsys.readouterr().err == ""
    assert not (checkout / ".venv" / "installed.txt").exists()
