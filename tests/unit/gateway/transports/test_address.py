"""Whose connects are counted together: the peer, or whom a trusted proxy speaks for, and nobody on loopback."""

from ipaddress import ip_network
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from services.gateway.transports.address import Addresses
from services.gateway.transports.takeover import EXTENSION


class Taken:
    def __init__(self, peer: str | None) -> None:
        self.peer = peer


def come(peer: str | None, told: str | None = None) -> HTTPConnection:
    headers = [] if told is None else [(b"x-forwarded-for", told.encode())]
    scope: dict[str, Any] = {"type": "http", "headers": headers, "extensions": {EXTENSION: Taken(peer)}}
    return HTTPConnection(scope)


@pytest.mark.parametrize(
    ("peer", "told", "counted"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # it is no proxy of ours
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::"),
        ("127.0.0.1", "198.51.100.1", None),
        ("::1", None, None),
        (None, None, None),
    ],
)
def test_the_first_address_that_is_no_trusted_proxys_counts(
    peer: str | None, told: str | None, counted: str | None
) -> None:
    addresses = Addresses((ip_network("10.0.0.0/8"),))
    assert addresses.of(come(peer, told)) == counted


def test_a_proxy_that_sends_a_header_of_its_own_is_heard_before_what_its_client_wrote() -> None:
    connection = come("10.0.0.1", "192.0.2.66")
    connection.scope["headers"].append((b"x-forwarded-for", b"198.51.100.1"))
    assert Addresses((ip_network("10.0.0.0/8"),)).of(connection) == "198.51.100.1"


def test_with_no_trusted_proxy_no_header_is_believed() -> None:
    assert Addresses(()).of(come("203.0.113.9", "198.51.100.1")) == "203.0.113.9"
