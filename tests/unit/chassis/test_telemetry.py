"""Logs as JSON lines, and one registry a process."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import Counter, generate_latest

from services.chassis.telemetry import configure_logging, logger, metrics_registry


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_event_is_one_json_line_on_standard_error_with_service_logger_level_and_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("gateway", "info")
    logger("services.somewhere").info("connected", connection="c1")
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = lines(told.err)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "connected",
        "connection": "c1",
        "service": "gateway",
        "region": "local",
        "logger": "services.somewhere",
        "level": "info",
    }


def test_a_traceback_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", "info")
    try:
        raise ValueError("a\nb")
    except ValueError:
        logger("x").exception("failed")
    (line,) = lines(capsys.readouterr().err)
    assert "ValueError" in str(line["exception"])


def test_the_standard_librarys_loggers_tell_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", "info")
    logging.getLogger("uvicorn.error").warning("slow %s", "client")
    (line,) = lines(capsys.readouterr().err)
    assert (line["event"], line["logger"], line["level"]) == ("slow client", "uvicorn.error", "warning")


@pytest.mark.parametrize("level", ["warning", "WARNING"])
def test_what_is_below_the_level_is_not_told(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", level)
    logger("x").info("detail")
    logging.getLogger("x").info("detail")
    assert capsys.readouterr().err == ""


def test_requests_of_the_http_client_are_not_told_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("gateway", "info")
    logging.getLogger("httpx").info("HTTP Request: GET http://issuer/keys")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_people_get_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging("gateway", "info")
    logger("x").info("connected")
    assert "connected" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_two_registries_in_one_process_do_not_mix_and_have_the_processs_own_figures() -> None:
    one, other = metrics_registry(), metrics_registry()
    Counter("a2a_something", "x", registry=one).inc()
    assert b"a2a_something_total 1.0" in generate_latest(one)
    assert b"a2a_something" not in generate_latest(other)
    for figure in (b"process_resident_memory_bytes", b"python_info", b"python_gc_collections_total"):
        assert figure in generate_latest(other)
