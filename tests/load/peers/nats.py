"""nats-server with its own WebSocket listener: stores nothing, knows no token; the least that a broker costs.

Also the broker behind the others: one configuration for all, JetStream and WebSocket on.
"""

import json
from contextlib import ExitStack

from services.local.embedded import NatsNotFound, find_binary, free_port
from tests.load.peers.peer import Place, Running, Speech, serve
from tests.load.process import Process

_CONFIG = """\
listen: "127.0.0.1:{port}"
websocket {{ listen: "127.0.0.1:{websocket}", no_tls: true }}
max_connections: 65536
write_deadline: "60s"
jetstream {{ store_dir: {store}, max_memory_store: 1GB, max_file_store: 8GB }}
"""


def start_broker(stack: ExitStack, place: Place, websocket: int | None = None) -> tuple[int, Process]:
    """A nats-server of this run's own; its port and process."""
    port = free_port()
    config = place.folder / "nats.conf"
    store = json.dumps(str(place.folder / "jetstream"))
    config.write_text(_CONFIG.format(port=port, websocket=websocket or free_port(), store=store))
    return port, serve(stack, place, [find_binary(), "-c", str(config)], "nats-server", port)


class Nats:
    """The peer."""

    name = "nats"

    def missing(self) -> str | None:
        """The binary comes with the requirements."""
        try:
            find_binary()
        except NatsNotFound as error:
            return str(error)
        return None

    def start(self, stack: ExitStack, place: Place) -> Running:
        """Subscribers are NATS clients over WebSocket."""
        websocket = free_port()
        port, process = start_broker(stack, place, websocket)
        process.wait_for_port(websocket)
        speech = Speech(("--mode", "nats", "--send", "SUB ev.c%d 1\\r\\n"), "body")
        return Running(websocket, f"nats://127.0.0.1:{port}/ev.c%d", {"ws": speech}, [process], nats_port=port)
