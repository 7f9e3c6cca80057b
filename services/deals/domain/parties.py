"""Who acts on a deal: its buyer, its node, or the system on behalf of neither.

A principal that is none of them is a stranger, and a stranger is told what somebody is told who asks for an id
that does not exist: nothing here says why.
"""

from contracts.errors import ErrorCode, Problem
from contracts.events.data import Actor, Party
from contracts.principal import ADMIN, BUYER, NODE, SERVICE, Principal

_OVERSEERS = (ADMIN, SERVICE)


def party_of(principal: Principal, *, buyer_id: str, node_id: str | None = None) -> Party | None:
    """The party to the deal that this principal is, or None."""
    if principal.role == BUYER and principal.sub == buyer_id:
        return "buyer"
    if principal.role == NODE and principal.sub == node_id:
        return "node"
    return None


def actor_of(principal: Principal, *, buyer_id: str, node_id: str | None = None) -> Actor | None:
    """As `party_of`, but admins and services act for the system."""
    return "system" if principal.role in _OVERSEERS else party_of(principal, buyer_id=buyer_id, node_id=node_id)


def unknown(kind: str) -> Problem:
    """What a stranger is told, and whoever asks for what is not there."""
    return Problem(ErrorCode.NOT_FOUND, f"there is no such {kind}, or it is not yours")
