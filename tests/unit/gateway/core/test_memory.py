"""A replica that is full takes nobody new, keeps whom it has, and opens again somewhat below."""

from services.gateway.core.memory import MemoryGuard
from tests.harness.core import World, principal
from tests.harness.people import Person


def test_above_the_limit_new_ones_are_turned_away_and_those_who_stand_live_on() -> None:
    world, told = World(), []
    size = [900]
    guard = MemoryGuard(world.replica, 1000, lambda: size[0], lambda over, held: told.append((over, held)))
    stands = Person(world, principal("b1", "buyer"))
    stands.read()
    size[0] = 1001
    world.pass_time(2)
    turned_away = Person(world, principal("b2", "buyer"))
    error, close = turned_away.read()
    assert (error["error"]["code"], error["error"]["retryable"], close["code"]) == ("overloaded", True, 4100)
    assert error["error"]["retry_after_ms"] > 0
    assert stands.ask(op="heartbeat", id=1)[0]["op"] == "heartbeat"
    size[0] = 980  # below, but near
    world.pass_time(2)
    assert Person(world, principal("b2", "buyer")).read()[0]["error"]["code"] == "overloaded"
    size[0] = 960
    world.pass_time(2)
    assert Person(world, principal("b2", "buyer")).read()[0]["op"] == "welcome"
    assert told == [(True, 1001), (False, 960)]
    assert guard.bytes == 960
