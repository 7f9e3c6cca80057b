"""A child's log: bounded while it is written, and the run before is kept."""

from pathlib import Path

import pytest

from services.local import logfile
from services.local.logfile import LogFile


def test_the_run_before_is_kept_once(tmp_path: Path) -> None:
    for run in ("first", "second"):
        with LogFile(tmp_path / "x.log").writer() as writer:
            writer.write(run.encode())
    assert LogFile(tmp_path / "x.log").lines() == []
    assert (tmp_path / "x.log.1").read_text() == "second"


def test_lines_are_told_from_a_place_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    with log.writer() as writer:
        writer.write(b"old\n")
        start = log.size()
        writer.write(b"new\nnot \xff text\n")
    assert log.lines(start) == ["new", "not � text"]


def test_a_log_that_grows_too_large_is_cut_and_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "LARGEST_BYTES", 10)
    log = LogFile(tmp_path / "x.log")
    with log.writer() as writer:
        writer.write(b"short\n")
        log.bound()
        assert log.size() == 6
        writer.write(b"too long\n")
        log.bound()
        assert log.size() == 0
        writer.write(b"next\n")
    assert log.lines() == ["next"]
    assert (tmp_path / "x.log.1").read_text() == "short\ntoo long\n"
