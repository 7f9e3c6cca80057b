"""The command line says what is wrong, and what to do about it, in one line."""

from pathlib import Path

import pytest

from services.chassis.server import listen
from services.local.__main__ import main
from services.local.child import ChildFailed


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err.splitlines()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(
        option in text
        for option in ("--port N", "--data DIR", "--regions A,B", "--no-traffic", "--json", "A2A_MARKET_MAX_BYTES")
    )


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--port={port}"])
    assert ended.value.code == 2
    assert "is not a port" in capsys.readouterr().err


def test_a_taken_port_says_how_to_choose_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, lines = error_of(["--port", str(port), "--data", str(tmp_path)], capsys)
    assert code == 2
    assert len(lines) == 1
    assert f"port {port} is taken" in lines[0]
    assert lines[0].endswith("choose another with --port N")


def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code, lines = error_of(["--data", str(tmp_path / "file")], capsys)
    assert code == 2
    assert len(lines) == 1
    assert "choose another with --data DIR" in lines[0]


def test_a_wrong_setting_of_its_own_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A2A_MARKET_MAX_BYTES", "plenty")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: A2A_MARKET_MAX_BYTES: ")


class FakeSystem:
    """A system that ends at once, in the way it was told to."""

    outcome: Exception | None = None

    def __init__(self, *_: object, **__: object) -> None:
        self.supervisor = self

    def stop(self) -> None:
        """Nothing runs."""

    async def run(self, _: object) -> None:
        if self.outcome is not None:
            raise self.outcome


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [(None, 0, ""), (ChildFailed("relay does not start", 1), 1, "error: relay does not start\n")],
    ids=["stopped", "failed"],
)
def test_the_exit_code_says_how_it_ended(
    outcome: Exception | None,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FakeSystem, "outcome", outcome)
    monkeypatch.setattr("services.local.__main__.System", FakeSystem)
    assert main(["--data", str(tmp_path)]) == code
    assert capsys.readouterr().err == said
