"""Presence and signals for tests of the core: bucket and wild-card as a test plays them, and who comes and goes."""

from typing import Any

from msgspec import Raw

from contracts.presence import Member
from tests.harness.core import World, order, principal
from tests.harness.people import Person


class FakeStore:
    """The bucket as a test plays it."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, int], bytes] = {}
        self.watched: set[str] = set()
        self.buried: list[str] = []
        self.writes = 0

    def write(self, channel: str, page: int, value: bytes | None) -> None:
        self.writes += 1
        if value is None:
            self.pages.pop((channel, page), None)
        else:
            self.pages[channel, page] = value

    def watch(self, channel: str) -> None:
        self.watched.add(channel)

    def unwatch(self, channel: str) -> None:
        self.watched.discard(channel)

    def bury(self, replica: str) -> None:
        self.buried.append(replica)


class FakeCarrier:
    """The wild-card as a test plays it."""

    def __init__(self) -> None:
        self.carried: list[tuple[str, bytes]] = []
        self.works = True

    def carry(self, channel: str, payload: bytes) -> bool:
        self.carried.append((channel, payload))
        return self.works


def come(world: World, sub: str, role: str = "buyer", channel: str = "order:o1", **more: Any) -> Person:
    """Somebody who subscribes, and has read what that brings."""
    person = Person(world, principal(sub, role))
    person.ask(op="subscribe", channel=channel, **{"presence": True, **more})
    settle(world)
    person.read()
    return person


def settle(world: World) -> None:
    """Until what is told as one has been told."""
    world.settle()
    world.pass_time(0.5)
    world.settle()


def enter(person: Person, data: Any = None, channel: str = "order:o1", action: str = "enter") -> None:
    """A presence message."""
    person.ask(op="presence", channel=channel, action=action, data=data)
    settle(person.world)


def told(person: Person) -> list[dict[str, Any]]:
    """What of presence and signals was told, without its op and channel."""
    settle(person.world)
    return [
        {name: value for name, value in one.items() if name not in ("op", "channel")}
        for one in person.read()
        if one["op"] in ("presence", "signal")
    ]


def body(sub: str, role: str = "buyer", data: Any = None) -> dict[str, Any]:
    """A member as it is told."""
    return {"sub": sub, "role": role, "data": data}


def there(sub: str, role: str = "node", at: int = 1, data: bytes = b"null") -> Member:
    """A member at another replica."""
    return Member(sub, role, at, Raw(data))


def watched_order() -> World:
    """A world in which b1 and n1 are the parties of `order:o1`."""
    found = World()
    found.publish(order("o1", buyer="b1", node="n1"))
    return found
