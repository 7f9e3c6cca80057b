"""What is said once all is ready: one line for programs, a page for people."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from services.local.app import Addresses
from services.local.deal import Deal
from services.local.tokens import HOLDERS


def as_json(addresses: Addresses, tokens: Mapping[str, str]) -> str:
    """One line of JSON."""
    return json.dumps({**asdict(addresses), "tokens": dict(tokens)}, separators=(",", ":"))


def as_text(addresses: Addresses, tokens: Mapping[str, str]) -> str:
    """A page that can be copied from, line by line."""
    event = json.dumps(_event(), separators=(",", ":"))
    watch = {role: _watch(addresses.gateway, f"{role}:{HOLDERS[role]}", tokens[role]) for role in ("buyer", "node")}
    return f"""
  Ready. Everything runs on this machine until Ctrl-C.

    gateway  {addresses.gateway}     WebSocket /v1/ws, SSE /v1/events, history /v1/channels/…
    ingest   {addresses.ingest}    publishers: POST /v1/events
    nats     {addresses.nats}

Tokens, good for 24 hours:

{"".join(f"  {role:8} {HOLDERS[role]:10} {token}{chr(10)}" for role, token in tokens.items())}
Watch what {HOLDERS["buyer"]} may see, the last five events first (Ctrl-C ends it):

{watch["buyer"]}

The same deals as the seller {HOLDERS["node"]} sees them:

{watch["node"]}

Publish an event; send it twice and the second answer says it is a duplicate:

curl -sS -H "Authorization: Bearer {tokens["service"]}" \\
  -H "Content-Type: application/cloudevents+json" "{addresses.ingest}/v1/events" -d '{event}'

Contracts of all events: {addresses.gateway}/v1/contracts
Next: README.md for WebSocket and resume, docs/protocol.md for every detail.
"""


def _event() -> dict[str, object]:
    key = secrets.token_hex(4)
    deal = Deal(key, HOLDERS["buyer"], HOLDERS["node"], "one hour of translation", asked=80, agreed=70)
    return deal.event(0, datetime.now(UTC))


def _watch(gateway: str, channel: str, token: str) -> str:
    return f'curl -N -H "Authorization: Bearer {token}" "{gateway}/v1/events?channel={channel}&last=5"'
