"""One WebSocket client of the core: speaks in dictionaries to a session on a fake sink."""

import json
from typing import Any

from contracts.principal import Principal
from services.gateway.core.session import Session
from tests.harness.core import FakeSink, World


class Person:
    """A session and its client's end."""

    def __init__(self, world: World, who: Principal | None = None, *, high: int = 10**9) -> None:
        self.world = world
        self.sink = FakeSink()
        self.session = self.sink.client = Session(world.replica, self.sink, who)
        self.sink.waiting, self.sink.high = 0, high
        self._heard: list[dict[str, Any]] = []

    @property
    def heard(self) -> list[dict[str, Any]]:
        """Everything up to now, `welcome` apart."""
        self.read()
        return [message for message in self._heard if message["op"] != "welcome"]

    def say(self, text: bytes) -> list[dict[str, Any]]:
        """Send one message as it is; what is answered at once."""
        self.read()
        self.session.receive(text)
        return self.read()

    def ask(self, **message: Any) -> list[dict[str, Any]]:
        """Send one message; what is answered at once."""
        return self.say(json.dumps(message).encode())

    def read(self) -> list[dict[str, Any]]:
        """What was written since."""
        found = self.sink.messages()
        self._heard += found
        return found

    def leave(self) -> None:
        """The connection is lost."""
        self.session.release()
