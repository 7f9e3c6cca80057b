"""Who is in a scenario: names for fresh ids, their tokens, and what they watch."""

from collections.abc import Callable
from typing import Any

import httpx

from contracts.envelope import CONTENT_TYPE
from tests.features.agent import A2aUser
from tests.features.follower import PlanFollower
from tests.features.watcher import KINDS, Watcher
from tests.harness.events import event, fresh
from tests.harness.planner import status
from tests.harness.tokens import bearer, token
from tests.integration.local.system import RunningSystem


class Plans:
    """The plans of one scenario, and who follows them by an event stream."""

    def __init__(self, people: "People") -> None:
        self._people = people
        # A plan's name -> its owner's.
        self._owners: dict[str, str] = {}
        # Name -> the event stream, and the A2A client, that each has.
        self.followers: dict[str, PlanFollower] = {}
        self.users: dict[str, A2aUser] = {}

    def begin(self, owner: str, plan: str) -> None:
        """Somebody begins a plan."""
        self._owners[plan] = owner
        self.happens(plan, status, "SUBMITTED", "please", role="USER")

    def happens(self, plan: str, make: Callable[..., dict[str, Any]], *details: str, **more: str) -> None:
        """Something happens in a plan, and the gateway has it."""
        document = make(self._people.id_of(plan), self._people.id_of(self._owners[plan]), *details, **more)
        (answer,) = self._people.publish(document)
        assert answer.is_success, answer.text
        self._people.let_it_arrive(answer, "plans")

    def close(self) -> None:
        """Hang up for everybody."""
        for follower in self.followers.values():
            follower.close()
        for user in self.users.values():
            user.close()


class People:
    """The people, the deals and the open connections of one scenario."""

    def __init__(self, system: RunningSystem) -> None:
        self._system = system
        # A name of the scenario -> the id that nobody else has.
        self._ids: dict[str, str] = {}
        # Name -> role, for those who hold a token.
        self._roles: dict[str, str] = {}
        # Name -> what each watches.
        self.watching: dict[str, Watcher] = {}
        # Name -> the cursor that each kept when hanging up.
        self.cursors: dict[str, str] = {}
        self.plans = Plans(self)
        # What was published, in order.
        self.published: list[dict[str, Any]] = []

    def add(self, name: str, role: str) -> None:
        """Somebody with a token."""
        self._roles[name] = role
        self.id_of(name)

    def id_of(self, name: str) -> str:
        """The id behind a name of the scenario."""
        return self._ids.setdefault(name, fresh(name))

    def channel(self, text: str) -> str:
        """A channel whose id may be a name: `buyer:ada`."""
        kind, _, name = text.partition(":")
        return text if kind in ("market", "admin") else f"{kind}:{self.id_of(name)}"

    def token(self, name: str, **claims: Any) -> str:
        """The token of somebody."""
        return token(self.id_of(name), self._roles[name], **claims)

    def watch(
        self, name: str, channel: str, over: str, *, bearing: str | None = None, region: str | None = None, **start: Any
    ) -> Watcher:
        """Let somebody watch a channel, at the hub unless in a region, from now on unless `start` says otherwise."""
        bearing = self.token(name) if bearing is None else bearing
        watcher: Watcher = KINDS[over](self._system.gateway_in(region), bearing, self.channel(channel), start)
        self.watching[name] = watcher
        return watcher

    def hang_up(self, name: str) -> None:
        """Somebody goes away and keeps the cursor."""
        watcher = self.watching.pop(name)
        self.cursors[name] = watcher.cursor
        watcher.close()

    def document(self, kind: str, **names: str) -> dict[str, Any]:
        """An event whose keys are names of the scenario: `buyer="ada"`."""
        ids: dict[str, Any] = {key: self.id_of(name) for key, name in names.items()}
        return event(kind, **ids)

    def publish(self, *documents: dict[str, Any]) -> list[httpx.Response]:
        """Publish through ingest, one request each."""
        headers = {**bearer("publisher", "service"), "Content-Type": CONTENT_TYPE}
        self.published += documents
        return [
            httpx.post(f"{self._system.ingest}/v1/events", json=document, headers=headers) for document in documents
        ]

    def let_it_arrive(self, answer: httpx.Response, stream: str = "market") -> None:
        """Wait until the gateway has what this answer says is stored: `last` counts from what the gateway has."""
        (stored,) = answer.json() if isinstance(answer.json(), list) else (answer.json(),)
        bearing = token(fresh("root"), "admin")
        watcher = KINDS["SSE"](self._system.gateway, bearing, f"admin:{stream}", {"cursor": stored["cursor"]})
        watcher.until_live()
        watcher.close()

    def history(self, name: str, channel: str, **parameters: Any) -> httpx.Response:
        """A page of a channel's history."""
        url = f"{self._system.gateway}/v1/channels/{self.channel(channel)}/events"
        return httpx.get(url, params=parameters, headers={"Authorization": f"Bearer {self.token(name)}"})

    def close(self) -> None:
        """Hang up for everybody."""
        for watcher in self.watching.values():
            watcher.close()
        self.plans.close()
