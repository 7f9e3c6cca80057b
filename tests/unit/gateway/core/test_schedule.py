from typing import Any

from services.gateway.core.connection import Connection
from services.gateway.core.replica import Schedule
from tests.harness.core import FakeLoop


class Hungry(Connection):
    """Wants `steps` steps, and asks for the next one from within, as reading pages does."""

    def __init__(self, schedule: Schedule, name: int, steps: int, log: list[int]) -> None:
        super().__init__(schedule.add)
        self.name, self.steps, self.log = name, steps, log

    def step(self) -> bool:
        self.log.append(self.name)
        self.steps -= 1
        if self.steps:
            self._schedule(self)
        return self.steps > 0


def hungry(count: int, steps: int) -> tuple[FakeLoop, Schedule, list[int], list[Hungry]]:
    loop, log = FakeLoop(), list[int]()
    faults: list[Any] = []
    schedule = Schedule(loop.wake, lambda *fault: faults.append(fault))
    found = [Hungry(schedule, name, steps, log) for name in range(count)]
    for one in found:
        schedule.add(one)
    return loop, schedule, log, found


def test_a_turn_has_a_bounded_number_of_steps_and_loses_nobody() -> None:
    loop, _, log, _ = hungry(200, 1)
    loop.turn()
    assert len(log) == 64
    loop.run()
    assert log == list(range(200))


def test_nobody_gets_a_second_step_before_everybody_has_had_a_first() -> None:
    loop, _, log, _ = hungry(200, 3)
    loop.run()
    assert log == list(range(200)) * 3


def test_the_loop_is_woken_once_however_many_ask() -> None:
    loop, schedule, _, found = hungry(3, 2)
    schedule.add(found[0])
    assert len(loop.due) == 1
    loop.turn()
    assert len(loop.due) == 1


def test_who_is_closed_by_then_is_passed_over() -> None:
    loop, _, log, found = hungry(3, 1)
    found[1].closed = True
    loop.run()
    assert log == [0, 2]


def test_one_that_raises_is_abandoned_and_the_others_get_their_turn() -> None:
    loop, log = FakeLoop(), list[int]()
    faults: list[tuple[Connection, Exception]] = []
    schedule = Schedule(loop.wake, lambda connection, error: faults.append((connection, error)))

    class Breaks(Hungry):
        def step(self) -> bool:
            raise RuntimeError("a bug")

    broken, other = Breaks(schedule, 0, 1, log), Hungry(schedule, 1, 2, log)
    schedule.add(broken)
    schedule.add(other)
    loop.run()
    assert broken.closed
    assert log == [1, 1]
    assert [one for one, _ in faults] == [broken]
