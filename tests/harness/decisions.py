"""Reading what a domain decided."""

from contracts.errors import ErrorCode, Problem


def code(decision: object) -> ErrorCode:
    """Why it was refused; that it was is asserted."""
    assert isinstance(decision, Problem), decision
    return decision.code
