"""The address that a request comes from: its peer's, or what a trusted proxy says of whom it stands for.

Only proxies that the operator named are believed, hop by hop from ours outwards: the rest of `X-Forwarded-For` is
whatever the client wrote. Loopback has no address: there it is a proxy nobody named, or a person's own machine.
"""

import ipaddress
from functools import lru_cache

from starlette.requests import HTTPConnection

from services.gateway.transports.takeover import EXTENSION

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# A household or a machine has at least so much of IPv6 to itself.
_IPV6_PREFIX = 64


class Addresses:
    """Judges by the proxies that are trusted."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted

    def of(self, connection: HTTPConnection) -> str | None:
        """What the rate of connects is counted by; None where it says nothing."""
        peer: str = connection.scope["extensions"][EXTENSION].peer or ""
        return _counted(self._outermost(peer, _told(connection)) if self._trusted else peer)

    def _outermost(self, peer: str, told: str) -> str:
        """The first address, from here outwards, that is no trusted proxy's."""
        at = peer
        for hop in reversed(told.split(",")):
            if not self._trusts(at) or not _parsed(hop.strip()):
                break
            at = hop.strip()
        return at

    def _trusts(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._trusted)


def _told(connection: HTTPConnection) -> str:
    """What the hops say: a proxy may append to the client's header or send one of its own behind it."""
    found = [value for name, value in connection.scope["headers"] if name == b"x-forwarded-for"]
    return str(b",".join(found), "latin-1")


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=4096)
def _counted(text: str) -> str | None:
    address = _parsed(text)
    if address is None or address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False).network_address)
    return str(address)
