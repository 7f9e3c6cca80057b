"""One deal of a scenario: what was asked of the services, what was answered, and who follows what of it."""

import time
from typing import Any

import httpx

from tests.features.people import People
from tests.features.watcher import KINDS, WAIT_SECONDS, Event, Watcher
from tests.harness.dealing import Ask, Desk
from tests.integration.local.system import RunningSystem


class Trade:
    """The deal under way."""

    def __init__(self, system: RunningSystem, people: People) -> None:
        self._gateway = system.gateway
        self._people = people
        self.desk = Desk({name: str(system.told[name]) for name in ("deals", "orders", "payments")})
        # What the deal is made of: `intent`, `quote`, `negotiation`, `order` -> id.
        self.ids: dict[str, str] = {}
        # The answer to the last command.
        self.answer: dict[str, Any] = {}
        # Channel as the scenario names it -> who follows it.
        self._following: dict[str, Watcher] = {}
        self._seen: dict[str, list[Event]] = {}

    def id_of(self, name: str) -> str:
        """The id behind a person's name."""
        return self._people.id_of(name)

    def done(self, ask: Ask, made: str | None = None) -> None:
        """Send a command that succeeds; its id is that of what it `made`."""
        answer = ask.now()
        assert answer.status_code == httpx.codes.CREATED, answer.text
        self.answer = answer.json()
        if made is not None:
            self.ids[made] = self.answer["id"]

    def refused(self, ask: Ask, code: str) -> None:
        """Send what is refused."""
        answer = ask.now()
        assert answer.json().get("code") == code, answer.text

    def look(self, name: str, path: str) -> dict[str, Any]:
        """What a query answers."""
        answer = self.desk.query("deals", path, "buyer", self.id_of(name)).now()
        assert answer.status_code == httpx.codes.OK, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def accepted(self, name: str) -> None:
        """The negotiation became an order; it is there once its payment is asked for."""
        self.ids["order"] = self.look(name, f"/v1/negotiations/{self.ids['negotiation']}")["state"]["order_id"]
        payment = self.desk.query("payments", f"/v1/payments/{self.ids['order']}", "admin", "root")
        deadline = time.monotonic() + WAIT_SECONDS
        while payment.now().status_code != httpx.codes.OK:
            assert time.monotonic() < deadline, "the payment is not asked for"
            time.sleep(0.02)

    # Who follows what.

    def follow(self, name: str, channel: str, over: str, **start: Any) -> None:
        """Let somebody follow a channel; one of the deal's own is named by its kind."""
        place = f"{channel}:{self.ids[channel]}" if channel in self.ids else self._people.channel(channel)
        watcher: Watcher = KINDS[over](self._gateway, self._people.token(name), place, start)
        self._following[channel] = watcher
        self._seen[channel] = watcher.until_live()

    def seen(self, channel: str, *ends: str) -> list[Event]:
        """The deal's events that came there, once the last of them are of these types."""
        while tuple(event["type"] for event in self._ours(channel)[-len(ends) :]) != ends:
            self._seen[channel].append(self._following[channel].next_event())
        return self._ours(channel)

    def _ours(self, channel: str) -> list[Event]:
        """Others deal at the same time; the admin sees that too."""
        if channel != "admin:market":
            return self._seen[channel]
        return [event for event in self._seen[channel] if event["correlationid"] == self.ids["intent"]]

    def close(self) -> None:
        """Everybody hangs up."""
        for watcher in self._following.values():
            watcher.close()
