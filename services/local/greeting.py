"""What is said once all is ready: one line for programs, a page for people."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from contracts.publishing import new_event
from services.local.app import Addresses
from services.local.commands import deal
from services.local.tokens import HOLDERS

# By region's name: its addresses, by what is there.
Regions = Mapping[str, Mapping[str, str]]
_NO_REGIONS: Regions = {}
_WISH = "200 hours of GPU time, at most 1500 EUR"


def as_json(
    addresses: Addresses, tokens: Mapping[str, str], webhook_secret: str, regions: Regions = _NO_REGIONS
) -> str:
    """One line of JSON."""
    told: dict[str, object] = {
        **asdict(addresses),
        "tokens": dict(tokens),
        "payment_webhook_secret": webhook_secret,
    }
    if regions:
        told["regions"] = regions
    return json.dumps(told, separators=(",", ":"))


def as_text(
    addresses: Addresses, tokens: Mapping[str, str], webhook_secret: str, regions: Regions = _NO_REGIONS
) -> str:
    """A page that can be copied from, line by line."""
    event = json.dumps(_event(), separators=(",", ":"))
    watch = {role: _watch(addresses.gateway, f"{role}:{HOLDERS[role]}", tokens[role]) for role in ("buyer", "node")}
    return f"""
  Ready. Everything runs on this machine until Ctrl-C.

    gateway   {addresses.gateway}     WebSocket /v1/ws, SSE /v1/events, history /v1/channels/…
    deals     {addresses.deals}    intents, quotes, negotiations: /openapi.json
    orders    {addresses.orders}    orders: /openapi.json
    payments  {addresses.payments}    payments: /openapi.json
    plans     {addresses.plans}    A2A tasks, begun and followed at the gateway: /.well-known/agent-card.json
    ingest    {addresses.ingest}    publishers of one's own: POST /v1/events
    nats      {addresses.nats}
{"".join(_region(name, at) for name, at in regions.items())}
Tokens, good for 24 hours:

{"".join(f"  {role:8} {HOLDERS[role]:10} {token}{chr(10)}" for role, token in tokens.items())}
The payment provider signs with {webhook_secret} until the next start.

Watch what {HOLDERS["buyer"]} may see, the last five events first (Ctrl-C ends it):

{watch["buyer"]}

The same deals as the seller {HOLDERS["node"]} sees them:

{watch["node"]}

Deal: paste this into another shell. Buyer and node agree, orders makes the order, and the payment confirms it:

{deal(addresses.deals, addresses.payments, tokens, webhook_secret, run=secrets.token_hex(4))}

Have a plan made, and follow it until it is done (A2A):

{_plan(addresses.gateway, tokens["buyer"])}

Publish an event of your own; send it twice and the second answer says it is a duplicate:

curl -sS -H "Authorization: Bearer {tokens["service"]}" \\
  -H "Content-Type: application/cloudevents+json" "{addresses.ingest}/v1/events" -d '{event}'

Contracts of all events: {addresses.gateway}/v1/contracts
Next: README.md for WebSocket and resume, docs/a2a.md for plans, docs/protocol.md for every detail,
docs/publishers.md for a service of your own.
"""


def _plan(gateway: str, token: str) -> str:
    said = {"messageId": f"try-{secrets.token_hex(4)}", "role": "ROLE_USER", "parts": [{"text": _WISH}]}
    return (
        f'curl -sSN -H "Authorization: Bearer {token}" -H "A2A-Version: 1.0" \\\n'
        f"  \"{gateway}/a2a/message:stream\" -d '{json.dumps({'message': said}, separators=(',', ':'))}'"
    )


def _region(name: str, at: Mapping[str, str]) -> str:
    return (
        f"\n  Region {name}, with every event of the hub:\n    gateway   {at['gateway']}\n    nats      {at['nats']}\n"
    )


def _event() -> dict[str, object]:
    key = secrets.token_hex(4)
    data = {"intent_id": f"intent_{key}", "buyer_id": HOLDERS["buyer"], "title": "one hour of translation"}
    return new_event("INTENT_CREATED", data, id=f"try-{key}", source="urn:a2a:service:by-hand", time=datetime.now(UTC))


def _watch(gateway: str, channel: str, token: str) -> str:
    return f'curl -N -H "Authorization: Bearer {token}" "{gateway}/v1/events?channel={channel}&last=5"'
