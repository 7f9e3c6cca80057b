"""Who may act on a deal: its two parties, and for the system admins and services; nobody else."""

import pytest

from contracts.errors import ErrorCode
from contracts.principal import Principal
from services.deals.domain.parties import actor_of, party_of, unknown


@pytest.mark.parametrize(
    ("sub", "role", "party", "actor"),
    [
        ("ada", "buyer", "buyer", "buyer"),
        ("oslo", "node", "node", "node"),
        ("ada", "node", None, None),
        ("oslo", "buyer", None, None),
        ("eve", "buyer", None, None),
        ("root", "admin", None, "system"),
        ("orders", "service", None, "system"),
    ],
)
def test_a_principal_is_a_party_by_role_and_id_together(
    sub: str, role: str, party: str | None, actor: str | None
) -> None:
    principal = Principal(sub, role, 4e9)
    assert party_of(principal, buyer_id="ada", node_id="oslo") == party
    assert actor_of(principal, buyer_id="ada", node_id="oslo") == actor


def test_where_there_is_no_node_no_node_is_a_party() -> None:
    assert party_of(Principal("oslo", "node", 4e9), buyer_id="ada") is None


def test_a_stranger_and_an_unknown_id_are_told_the_same() -> None:
    assert unknown("intent").code is ErrorCode.NOT_FOUND
