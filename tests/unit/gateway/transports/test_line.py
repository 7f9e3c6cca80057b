"""Who comes at once is heard in order, so many in a turn of the loop."""

import pytest

from services.gateway.transports.line import HEARD_A_TURN, MOST_WAITING_BYTES, Line
from tests.harness.core import FakeLoop
from tests.harness.frames import FakeTransport


class Client:
    def __init__(self, heard: list[bytes]) -> None:
        self.transport = FakeTransport()
        self.waits = False
        self.heard = heard

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)
        if data == b"broken":
            raise ValueError(data)


class Scene:
    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.line = Line(self.loop.wake)
        self.heard: list[bytes] = []

    def come(self, *said: bytes) -> list[Client]:
        clients = [Client(self.heard) for _ in said]
        for client, data in zip(clients, said, strict=True):
            self.line.join(client, data)
        return clients


@pytest.fixture
def scene() -> Scene:
    return Scene()


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


def test_so_many_are_heard_at_once_and_the_others_in_order_in_the_turns_after(scene: Scene) -> None:
    everybody = numbers(0, 2 * HEARD_A_TURN + 5)
    scene.come(*everybody)
    for turns in (1, 2, 3):
        assert scene.heard == everybody[: turns * HEARD_A_TURN]
        scene.loop.turn()
    assert not scene.loop.due, "who has nobody waiting does not turn"


def test_who_comes_while_others_wait_is_heard_behind_them(scene: Scene) -> None:
    scene.come(*numbers(0, HEARD_A_TURN + 1))
    scene.loop.turn()
    scene.come(*numbers(HEARD_A_TURN + 1, 2 * HEARD_A_TURN + 1))
    assert scene.heard == numbers(0, 2 * HEARD_A_TURN)
    scene.loop.turn()
    assert scene.heard == numbers(0, 2 * HEARD_A_TURN + 1)


def test_nothing_is_read_of_who_waits(scene: Scene) -> None:
    waiting = scene.come(*numbers(0, HEARD_A_TURN + 1))[-1]
    assert (waiting.waits, waiting.transport.paused_reading) == (True, True)
    scene.loop.turn()
    assert (waiting.waits, waiting.transport.paused_reading) == (False, False)


def test_who_has_left_is_passed_over_and_takes_nobodys_place(scene: Scene) -> None:
    clients = scene.come(*numbers(0, 2 * HEARD_A_TURN + 1))
    clients[HEARD_A_TURN].transport.closing = True
    scene.loop.turn()
    expected = numbers(0, 2 * HEARD_A_TURN + 1)
    del expected[HEARD_A_TURN]
    assert scene.heard == expected


def test_one_that_cannot_be_heard_is_cut_off_and_does_not_keep_the_others(scene: Scene) -> None:
    broken, other = scene.come(*numbers(0, HEARD_A_TURN), b"broken", b"next")[-2:]
    with pytest.raises(ValueError, match="broken"):
        scene.loop.turn()
    scene.loop.turn()
    assert scene.heard[-2:] == [b"broken", b"next"]
    assert (broken.transport.aborted, other.transport.aborted) == (True, False)


def test_a_quiet_line_hears_at_once(scene: Scene) -> None:
    for _ in range(3):
        scene.come(b"one")
        scene.loop.turn()
        scene.loop.turn()
    assert scene.heard == [b"one"] * 3
    assert not scene.loop.due


def test_what_waits_has_a_bound_and_who_says_more_is_heard_at_once(scene: Scene) -> None:
    scene.come(*numbers(0, HEARD_A_TURN))
    half = bytes(MOST_WAITING_BYTES // 2)
    scene.come(half, half, b"too much")
    assert scene.heard[HEARD_A_TURN:] == [b"too much"]
    scene.loop.turn()
    assert scene.heard[HEARD_A_TURN + 1 :] == [half, half]
    scene.come(*numbers(0, HEARD_A_TURN), b"waits again")
    assert scene.heard[-1] != b"waits again"
