"""The hand-written server (`handwritten.py`): what the gateway has to be better than to be worth its code."""

import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from services.local.embedded import free_port
from tests.load.peers.nats import start_broker
from tests.load.peers.peer import Place, Running, Speech, serve

_SCRIPT = Path(__file__).with_name("handwritten.py")
_NEEDS = "import httptools, nats, sse_starlette, starlette, uvicorn, uvloop, websockets"
_HOW = (
    "needs sse-starlette, as with: pip install -r tests/load/peers/requirements.txt, "
    "or a Python that has it: --peer-python"
)


class Hand:
    """The peer; `python` runs it."""

    name = "hand"

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python

    def missing(self) -> str | None:
        """One package more than the project's own."""
        return None if _imports(self._python) else _HOW

    def start(self, stack: ExitStack, place: Place) -> Running:
        """With a nats-server of its own, as the gateway has."""
        broker_port, broker = start_broker(stack, place)
        port = free_port()
        # -P: the modules beside the script are the bench's, not its own.
        command = [self._python, "-P", str(_SCRIPT), str(port), f"nats://127.0.0.1:{broker_port}"]
        server = serve(stack, place, command, "hand", port)
        speeches = {
            "ws": Speech(("--path", "/ws", "--send", '{"sub":"c%d"}'), "body"),
            "sse": Speech(("--mode", "sse", "--path", "/sse/c%d"), "body"),
        }
        publish = f"nats://127.0.0.1:{broker_port}/ev.c%d"
        return Running(port, publish, speeches, [broker, server], nats_port=broker_port)


@cache
def _imports(python: str) -> bool:
    try:
        found = subprocess.run([python, "-c", _NEEDS], check=False, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return found.returncode == 0
