"""The agent card is one that the SDK reads, as 1.0 and as 0.3."""

from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3 import types as v03

from services.gateway.a2a.card import agent_card


def test_a_client_of_1_0_finds_every_binding_and_how_to_authenticate() -> None:
    card = parse_agent_card(agent_card("https://gateway.example/"))
    assert [(one.url, one.protocol_binding, one.protocol_version) for one in card.supported_interfaces] == [
        ("https://gateway.example/a2a", "JSONRPC", "1.0"),
        ("https://gateway.example/a2a", "HTTP+JSON", "1.0"),
        ("https://gateway.example/a2a", "JSONRPC", "0.3"),
    ]
    assert card.capabilities.streaming
    assert not card.capabilities.push_notifications
    assert not card.capabilities.extended_agent_card
    assert list(card.security_requirements[0].schemes) == ["bearer"]
    assert "bearer" in card.security_schemes


def test_a_client_of_0_3_finds_its_own_names() -> None:
    card = v03.AgentCard.model_validate(agent_card("https://gateway.example"))
    assert (card.url, card.preferred_transport, card.protocol_version) == (
        "https://gateway.example/a2a",
        "JSONRPC",
        "0.3.0",
    )
    assert card.capabilities.streaming
    assert card.security == [{"bearer": []}]
    assert card.security_schemes is not None
    scheme = card.security_schemes["bearer"].root
    assert isinstance(scheme, v03.HTTPAuthSecurityScheme)
    assert scheme.scheme == "bearer"


def test_the_cards_own_scheme_is_bearer_to_1_0() -> None:
    scheme = agent_card("https://x")["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]
    assert scheme == {"scheme": "Bearer", "bearerFormat": "JWT"}
