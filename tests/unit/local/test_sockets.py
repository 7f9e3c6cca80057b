"""The supervisor's sockets: taken before anybody serves them, and a taken port is told."""

import socket

import pytest

from services.local.sockets import PortTaken, listening, url_of


def test_a_client_can_connect_before_anybody_serves() -> None:
    with listening(0) as listener, socket.create_connection(listener.getsockname()) as client:
        assert url_of(listener) == "http://{}:{}".format(*client.getpeername())


def test_a_taken_port_says_what_to_do() -> None:
    with listening(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken; .* choose another with --port N"):
            listening(port)


def test_another_refusal_is_told_as_the_system_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.local.sockets.HOST", "203.0.113.1")
    with pytest.raises(PortTaken, match=r"cannot be used \("):
        listening(0)
