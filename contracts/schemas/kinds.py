"""Kinds of channels in words: what each role sees of one, and which events can be in it; by their declarations."""

from contracts.channels import ID, ChannelKind, Narrowed, Sees
from contracts.contract import Contract
from contracts.subjects import PLACEHOLDER


def told(kind: ChannelKind) -> str:
    """A sentence for people: its stream, and what each role sees."""
    roles = "; ".join(f"{role}: {rule}" for role, rule in access(kind).items())
    return f"A channel to subscribe to, over the stream {kind.stream}. {roles}."


def access(kind: ChannelKind) -> dict[str, str]:
    """Role -> what it sees."""
    return {role: _rule(rule) for role, rule in kind.access.items()}


def _rule(rule: Sees | Narrowed) -> str:
    return f"only events whose {rule.token} is its own id" if isinstance(rule, Narrowed) else rule.value


def holds(kind: ChannelKind, contract: Contract) -> bool:
    """Whether an event of the contract can be in a channel of the kind."""
    if contract.stream != kind.stream:
        return False
    return any(
        all(_may_be(contract, token, wanted) for token, wanted in selection.items()) for selection in kind.selections
    )


def _may_be(contract: Contract, token: str, wanted: str) -> bool:
    fixed = contract.fixed.get(token)
    if fixed is None:
        return wanted != PLACEHOLDER
    return fixed == wanted or (wanted == ID and fixed != PLACEHOLDER)
