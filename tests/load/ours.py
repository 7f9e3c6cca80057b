"""`python -m tests.load.ours > FILE`: the gateway as another bench can run it, as one JSON object.

It names the command, its environment, and what a load client sends. `ours.json` beside this file is its
output, for a nats-server at 4222; run from the checkout's root with its Python first on PATH.
"""

import json
import sys

from tests.load.peers.gateway import SETTINGS, SUBJECT, sse_speech, websocket_speech

PORT = 8080
NATS_URL = "nats://127.0.0.1:4222"


def description() -> dict[str, object]:
    """The gateway under test: `c%d` is the channel, EPOCH and AFTER are a cursor's."""
    environment = {**SETTINGS, "A2A_NATS_URL": NATS_URL, "A2A_HTTP_PORT": str(PORT)}
    behind = {"op": "subscribe", "channel": "order:c0", "cursor": "MARKET.EPOCH.AFTER"}
    return {
        "procs": [[["python", "-m", "services.gateway"], environment]],
        "nats": True,
        "port": PORT,
        "pub": f"{NATS_URL}/{SUBJECT}",
        "ws": websocket_speech(),
        "sse": sse_speech(),
        "replay": websocket_speech(behind),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(description(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
