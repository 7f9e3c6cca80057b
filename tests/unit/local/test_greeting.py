"""What is printed can be used as it is: parsed by a program, or copied by a person."""

import json
import re
import shlex
import subprocess
from dataclasses import asdict

from contracts.registry import REGISTRY
from services.local.app import Addresses
from services.local.greeting import as_json, as_text
from services.local.tokens import Mint, new_webhook_secret

AT = Addresses(
    gateway="http://127.0.0.1:1",
    ingest="http://127.0.0.1:2",
    deals="http://127.0.0.1:3",
    orders="http://127.0.0.1:4",
    payments="http://127.0.0.1:5",
    plans="http://127.0.0.1:8",
    relay="http://127.0.0.1:6",
    nats="nats://127.0.0.1:7",
)
TOKENS = Mint("a secret of the tests alone, of more than 32 bytes").handed_out()
WEBHOOKS = new_webhook_secret()


def test_json_is_one_line_with_all_addresses_and_tokens() -> None:
    line = as_json(AT, TOKENS, WEBHOOKS)
    assert "\n" not in line
    assert json.loads(line) == {**asdict(AT), "tokens": TOKENS, "payment_webhook_secret": WEBHOOKS}


def test_the_text_shows_every_address_and_token() -> None:
    text = as_text(AT, TOKENS, WEBHOOKS)
    shown = (AT.gateway, AT.ingest, AT.deals, AT.orders, AT.payments, AT.nats, WEBHOOKS, *TOKENS.values())
    assert all(value in text for value in shown)


def test_the_curl_lines_survive_a_shell() -> None:
    commands = re.findall(r"^curl .*(?:\n  .*)*", as_text(AT, TOKENS, WEBHOOKS), re.MULTILINE)
    words = [shlex.split(command.replace("\\\n", " ")) for command in commands]
    assert [words[0][-1], words[1][-1]] == [
        f"{AT.gateway}/v1/events?channel=buyer:buyer_ada&last=5",
        f"{AT.gateway}/v1/events?channel=node:node_oslo&last=5",
    ]
    assert f"Authorization: Bearer {TOKENS['buyer']}" in words[0]
    REGISTRY.check(json.loads(words[-1][-1]))


def test_the_deal_to_paste_is_a_script_that_a_shell_can_read() -> None:
    text = as_text(AT, TOKENS, WEBHOOKS)
    script = text[text.index("BUYER=") : text.index("Have a plan made")]
    for shell in ("sh", "bash"):
        subprocess.run([shell, "-n", "-c", script], check=True)
