"""The agent card: what an A2A client reads first. One card says it to clients of 1.0 and of 0.3.

What 0.3 names otherwise stands beside what 1.0 names, as the SDK's own servers do it. Tells nothing of plans.
"""

from typing import Any

CARD_PATH = "/.well-known/agent-card.json"
RPC_PATH = "/a2a"
_NAME = "A2A market plans"
_DESCRIPTION = (
    "Carries out plans in an agent-to-agent market and streams what happens in them. A plan is a task; each update "
    "bears its cursor in metadata.cursor, and Last-Event-ID resumes a subscription after it."
)
_VERSION = "1.0.0"
_MODES = ["text/plain", "application/json"]


def agent_card(origin: str) -> dict[str, Any]:
    """The card of the agent at `origin`, as `https://gateway.example`."""
    url = origin.rstrip("/") + RPC_PATH
    return {
        "name": _NAME,
        "description": _DESCRIPTION,
        "version": _VERSION,
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": url, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
        ],
        "capabilities": {"streaming": True, "pushNotifications": False, "extendedAgentCard": False},
        "securitySchemes": {
            "bearer": {
                "httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"},
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
            }
        },
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        "security": [{"bearer": []}],
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "skills": [
            {
                "id": "plan",
                "name": "Carry out a plan",
                "description": "Takes a message that says what is wanted, and works on it as a task of its own.",
                "tags": ["plan", "market"],
            }
        ],
        # What 0.3 reads instead.
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
    }
