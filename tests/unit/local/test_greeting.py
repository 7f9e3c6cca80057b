"""What is printed can be used as it is: parsed by a program, or copied by a person."""

import json
import re
import shlex

from contracts.registry import REGISTRY
from services.local.app import Addresses
from services.local.greeting import as_json, as_text
from services.local.tokens import Mint

AT = Addresses("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "nats://127.0.0.1:4")
TOKENS = Mint("a secret of the tests alone, of more than 32 bytes").handed_out()


def test_json_is_one_line_with_all_addresses_and_tokens() -> None:
    line = as_json(AT, TOKENS)
    assert "\n" not in line
    assert json.loads(line) == {
        "gateway": AT.gateway,
        "ingest": AT.ingest,
        "relay": AT.relay,
        "nats": AT.nats,
        "tokens": TOKENS,
    }


def test_the_text_shows_every_address_and_token() -> None:
    text = as_text(AT, TOKENS)
    assert all(value in text for value in (AT.gateway, AT.ingest, AT.nats, *TOKENS.values()))


def test_the_curl_lines_survive_a_shell() -> None:
    commands = re.findall(r"^curl .*(?:\n  .*)*", as_text(AT, TOKENS), re.MULTILINE)
    words = [shlex.split(command.replace("\\\n", " ")) for command in commands]
    assert [words[0][-1], words[1][-1]] == [
        f"{AT.gateway}/v1/events?channel=buyer:buyer_ada&last=5",
        f"{AT.gateway}/v1/events?channel=node:node_oslo&last=5",
    ]
    assert f"Authorization: Bearer {TOKENS['buyer']}" in words[0]
    REGISTRY.check(json.loads(words[2][-1]))
