"""A whole deal as shell commands to paste: five requests, from what a buyer wants to what was paid.

Needs no more than a shell, curl, sed and openssl. The keys are fixed when this is made, so what is pasted twice
happens once.
"""

from collections.abc import Mapping

from services.local.tokens import webhook_key


def deal(deals: str, payments: str, tokens: Mapping[str, str], webhook_secret: str, *, run: str) -> str:
    """The commands; `run` makes their keys unlike those of any other deal."""
    return f"""\
BUYER={tokens["buyer"]}
NODE={tokens["node"]}
post() {{ curl -sS -H "Authorization: Bearer $1" -H "Idempotency-Key: {run}-$2" -H "Content-Type: application/json" \\
  "{deals}/v1/$3" -d "$4"; }}
field() {{ sed "s/.*\\"$1\\":\\"\\([^\\"]*\\)\\".*/\\1/"; }}

INTENT=$(post $BUYER 1 intents '{{"title":"an hour of translation"}}' | field id)
QUOTE=$(post $NODE 2 intents/$INTENT/quotes '{{"price":{{"amount":"80.00","currency":"EUR"}}}}' | field id)
TALK=$(post $BUYER 3 intents/$INTENT/negotiations \\
  '{{"quote_id":"'$QUOTE'","price":{{"amount":"70.00","currency":"EUR"}}}}' | field id)
post $NODE 4 negotiations/$TALK/accept '{{}}'

ORDER=$(curl -sS -H "Authorization: Bearer $BUYER" "{deals}/v1/negotiations/$TALK" | field order_id)
PAID='{{"status":"succeeded","reference":"psp-{run}"}}'; AT=$(date +%s)
SIGNED=$(printf %s "{run}.$AT.$PAID" \\
  | openssl dgst -sha256 -mac HMAC -macopt hexkey:{webhook_key(webhook_secret).hex()} -binary | base64)
curl -sf --retry 5 --retry-all-errors -H "webhook-id: {run}" -H "webhook-timestamp: $AT" \\
  -H "webhook-signature: v1,$SIGNED" "{payments}/v1/payments/$ORDER/result" -d "$PAID\""""
