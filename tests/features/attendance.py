"""Who is where in a scenario: one WebSocket a person, and what it was told of the others."""

import json
import time
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.features.people import People
from tests.features.watcher import WAIT_SECONDS
from tests.integration.local.system import RunningSystem


class _Guest:
    """One person's connection to one channel."""

    def __init__(self, gateway: str, token: str, channel: str) -> None:
        self.channel = channel
        self.members: dict[str, Any] = {}
        self.left: list[str] = []
        self.signals: list[dict[str, Any]] = []
        url = gateway.replace("http://", "ws://") + "/v1/ws"
        headers = {"Authorization": f"Bearer {token}"}
        self._socket: ClientConnection = connect(url, additional_headers=headers, open_timeout=WAIT_SECONDS)
        self._told = False
        self.send(op="subscribe", channel=channel, presence=True)
        while not self._told:
            self.take()

    def send(self, **message: Any) -> None:
        self._socket.send(json.dumps(message))

    def take(self, seconds: float = WAIT_SECONDS) -> None:
        """Deal with the next message."""
        message = json.loads(self._socket.recv(timeout=seconds))
        if message["op"] == "signal":
            self.signals.append(message)
        if message["op"] == "error":
            raise AssertionError(f"refused: {message}")
        if message["op"] != "presence":
            return
        if "members" in message:
            self._told = True
            self.members = {}
        for one in (*message.get("members", ()), *message.get("joins", ()), *message.get("updates", ())):
            self.members[one["sub"]] = one["data"]
        for one in message.get("leaves", ()):
            self.left.append(one["sub"])
            del self.members[one["sub"]]

    def close(self) -> None:
        self._socket.close()


class Attendance:
    """Everybody's, in one scenario."""

    def __init__(self, system: RunningSystem, people: People) -> None:
        self._gateway = system.gateway
        self._people = people
        self._guests: dict[str, _Guest] = {}

    def come(self, name: str, channel: str) -> None:
        """Somebody subscribes and is told who is there."""
        place = self._people.channel(channel)
        self._guests[name] = _Guest(self._gateway, self._people.token(name), place)

    def come_back(self, name: str) -> None:
        """The connection is lost, and there is another one."""
        lost = self._guests.pop(name)
        lost.close()
        self._guests[name] = _Guest(self._gateway, self._people.token(name), lost.channel)

    def say(self, name: str, **message: Any) -> None:
        """Send something of the channel where one is."""
        guest = self._guests[name]
        guest.send(channel=guest.channel, **message)

    def guest(self, name: str) -> _Guest:
        return self._guests[name]

    def until(self, name: str, holds: Any) -> None:
        """Let somebody listen until this holds."""
        guest, deadline = self._guests[name], time.monotonic() + WAIT_SECONDS
        while not holds(guest):
            assert time.monotonic() < deadline, f"{name} knows {guest.members}, heard {guest.signals}"
            guest.take()

    def listen(self, name: str, seconds: float = 0.7) -> _Guest:
        """Let somebody hear what comes for a while."""
        guest, deadline = self._guests[name], time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                guest.take(left)
            except TimeoutError:
                break
        return guest

    def listed(self, name: str, channel: str) -> set[str]:
        """Who is in a channel, over HTTP."""
        url = f"{self._gateway}/v1/channels/{self._people.channel(channel)}/presence"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {self._people.token(name)}"})
        assert answer.is_success, answer.text
        return {one["sub"] for one in answer.json()["members"]}

    def close(self) -> None:
        """Everybody hangs up."""
        for guest in self._guests.values():
            guest.close()
