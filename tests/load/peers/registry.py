"""Every peer by its name."""

from tests.load.peers.gateway import Gateway
from tests.load.peers.hand import Hand
from tests.load.peers.nats import Nats
from tests.load.peers.nchan import Nchan
from tests.load.peers.peer import Peer

NAMES = ("ours", "nats", "nchan", "hand")


def peers(peer_python: str) -> dict[str, Peer]:
    """All there are; `peer_python` runs the hand-written one."""
    found: tuple[Peer, ...] = (Gateway(), Nats(), Nchan(), Hand(peer_python))
    return {peer.name: peer for peer in found}
