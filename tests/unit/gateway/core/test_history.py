import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem
from services.gateway.core.history import HistoryPage, HistoryReader
from services.gateway.core.replay import After, Earliest, Now, Start
from tests.harness.archive import EPOCH
from tests.harness.core import World, order, sequences


class Asked:
    """One history request and, once there is one, its answer."""

    def __init__(self, world: World, start: Start, limit: int = 100, *, patient: bool = False) -> None:
        self.answers: list[HistoryPage | Problem] = []
        self.reader = HistoryReader(world.replica.schedule.add, limit, patient, self.answers.append)
        self.reader.subscribe(world.market.stream, (world.grant("order:o1"),), start, None, "notify")

    @property
    def page(self) -> HistoryPage:
        [found] = self.answers
        assert isinstance(found, HistoryPage)
        return found


def at(sequence: int) -> Cursor:
    return Cursor("MARKET", EPOCH, sequence)


@pytest.fixture
def world() -> World:
    return World()


def test_a_page_is_all_events_after_its_start_and_where_they_end(world: World) -> None:
    world.publish(order("o1"), order("o2"), order("o1"), order("o2"))
    asked = Asked(world, Earliest())
    world.settle()
    assert sequences(asked.page.entries) == [1, 3]
    assert (asked.page.cursor, asked.page.live, asked.page.gap) == (at(4), True, None)
    world.assert_nothing_is_left()


def test_a_full_page_ends_with_its_last_event_and_is_not_the_end(world: World) -> None:
    world.publish(*[order("o1")] * 5)
    asked = Asked(world, Earliest(), 3)
    assert sequences(asked.page.entries) == [1, 2, 3]
    assert (asked.page.cursor, asked.page.live) == (at(3), False)


@given(
    st.lists(st.sampled_from([order("o1"), order("o2")]), max_size=40),
    st.integers(1, 7),
    st.integers(0, 40),
    st.integers(1, 5),
)
def test_paging_through_by_the_cursor_gives_everything_once(
    subjects: list[str], limit: int, warm: int, partial: int
) -> None:
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.gateway.core.log.PAGE_EVENTS", 4)
        patch.setattr("services.gateway.core.subscription.STEP_BYTES", 100)
        patch.setattr("services.gateway.core.replay.SHARED_PAGES_DISTANCE", 10)
        stored = world.publish(*subjects)
        world.forget_below(max(0, len(stored) - warm))
        start: Start = Earliest()
        seen: list[int] = []
        for _ in range(100):
            asked = Asked(world, start, limit)
            while not asked.answers:
                world.loop.run()
                if world.market.asked:
                    world.market.answer(events=partial)
            assert len(asked.page.entries) <= limit
            seen += sequences(asked.page.entries)
            start = After(asked.page.cursor)
            if asked.page.live:
                break
        assert seen == [one.sequence for one in stored if one.subject == order("o1")]
        assert start == After(at(len(stored)))
        world.assert_nothing_is_left()


def test_patience_waits_at_the_live_end_for_the_first_event(world: World) -> None:
    world.publish(order("o1"))
    asked = Asked(world, Now(), patient=True)
    world.publish(order("o2"))
    assert asked.answers == []
    world.publish(order("o1"))
    assert sequences(asked.page.entries) == [3]
    assert (asked.page.cursor, asked.page.live) == (at(3), True)
    world.publish(order("o1"))
    assert len(asked.answers) == 1


def test_patience_does_not_wait_where_there_is_something(world: World) -> None:
    world.publish(order("o1"))
    asked = Asked(world, Earliest(), patient=True)
    world.settle()
    assert sequences(asked.page.entries) == [1]


def test_when_patience_ends_the_page_is_empty_and_its_cursor_has_moved_on(world: World) -> None:
    asked = Asked(world, Now(), patient=True)
    world.publish(order("o2"))
    asked.reader.hurry()
    asked.reader.hurry()
    asked.reader.finish()
    assert (asked.page.entries, asked.page.cursor, asked.page.live) == ((), at(1), True)
    world.assert_nothing_is_left()


def test_patience_that_ends_before_the_page_is_read_ends_with_the_page(world: World) -> None:
    world.publish(*[order("o1")] * 3)
    world.forget_below(3)
    asked = Asked(world, Earliest(), patient=True)
    asked.reader.hurry()
    asked.reader.finish()
    assert asked.answers == []
    world.settle()
    assert sequences(asked.page.entries) == [1, 2, 3]


def test_a_page_cut_short_says_where_it_stopped(world: World) -> None:
    world.publish(*[order("o1")] * 6)
    world.forget_below(6)
    asked = Asked(world, Earliest())
    world.market.answer()
    world.market.answer(events=2)
    asked.reader.finish()
    assert sequences(asked.page.entries) == [1, 2]
    assert (asked.page.cursor, asked.page.live) == (at(2), False)
    world.settle()
    world.assert_nothing_is_left()


def test_a_live_batch_longer_than_the_limit_is_cut(world: World) -> None:
    asked = Asked(world, Now(), 2, patient=True)
    for _ in range(3):
        world.market.publish(order("o1"))
    world.market.feed()
    assert sequences(asked.page.entries) == [1, 2]
    assert (asked.page.cursor, asked.page.live) == (at(2), False)


def test_a_gap_is_part_of_the_page(world: World) -> None:
    world.publish(*[order("o1")] * 6)
    world.market.trim(4)
    world.forget_below(6)
    asked = Asked(world, After(at(1)))
    world.settle()
    gap = asked.page.gap
    assert gap is not None
    assert (gap.reason, gap.start, gap.to) == ("expired", str(at(1)), at(3))
    assert sequences(asked.page.entries) == [4, 5, 6]


def test_of_several_gaps_nothing_is_left_unnamed(world: World) -> None:
    world.publish(*[order("o1")] * 6)
    world.market.trim(4)
    world.forget_below(6)
    asked = Asked(world, After(at(1)))
    world.market.answer()
    world.market.trim(6)
    world.settle()
    gap = asked.page.gap
    assert gap is not None
    assert (gap.reason, gap.start, gap.to) == ("expired", str(at(1)), at(5))
    assert sequences(asked.page.entries) == [6]


def test_a_problem_is_the_answer(world: World) -> None:
    world.publish(*[order("o1")] * 6)
    world.forget_below(6)
    asked = Asked(world, Earliest())
    problem = Problem(ErrorCode.REPLAY_UNAVAILABLE)
    world.market.answer(answer=problem)
    assert asked.answers == [problem]
    world.assert_nothing_is_left()


def test_who_has_left_gets_no_answer(world: World) -> None:
    world.publish(*[order("o1")] * 6)
    world.forget_below(6)
    asked = Asked(world, Earliest())
    asked.reader.release()
    world.settle()
    asked.reader.on_failed(None, Problem(ErrorCode.INTERNAL))  # type: ignore[arg-type]
    assert asked.answers == []
