"""When a replay mirror is held to be wrong."""

from typing import Any

import pytest

from contracts.topology import EPOCH, StreamSpec
from services.relay.mirror import Fault, Judge, Look, is_ours, look_at

SPEC = StreamSpec("MARKET", ("market.>",))
EARLIER, NOW, LATER = "0mi000000", "0mi7c3k9a", "0mi900000"
CREATED = "2026-11-20T16:00:00.123456789Z"


def info(
    first: int = 1, last: int = 10, messages: int | None = None, *, created: str = CREATED, **config: Any
) -> dict[str, Any]:
    count = last - first + 1 if messages is None else messages
    made = {"name": "MARKET_REPLAY", "storage": "file", "num_replicas": 1, "metadata": {EPOCH: NOW}, **config}
    return {"config": made, "created": created, "state": {"first_seq": first, "last_seq": last, "messages": count}}


def mirror(*bounds: int, **config: Any) -> dict[str, Any]:
    return info(*bounds, **{"mirror": {"name": "MARKET"}, **config})


def look(mirrored: dict[str, Any], stored: dict[str, Any] | None = None, lag_seconds: float | None = None) -> Look:
    from services.chassis.jetstream import state_of

    return look_at(mirrored, state_of(stored or info(name="MARKET")), lag_seconds)


@pytest.fixture
def judge() -> Judge:
    return Judge(stall_seconds=60)


def test_an_equal_mirror_is_right(judge: Judge) -> None:
    for now in (0.0, 100.0, 1000.0):
        assert judge.judge(look(mirror()), now) is None


@pytest.mark.parametrize("epoch", [EARLIER, LATER])
def test_a_mirror_of_another_life_is_wrong_at_once(judge: Judge, epoch: str) -> None:
    assert judge.judge(look(mirror(metadata={EPOCH: epoch})), 0) is Fault.OTHER_LIFE


def test_a_mirror_made_by_hand_is_right_where_it_was_made_in_the_streams_life() -> None:
    made = {"metadata": {}, "created": "2026-11-20T16:00:00Z"}
    before = info(name="MARKET", created="2026-11-20T15:00:00Z", metadata={})
    after = info(name="MARKET", created="2026-11-20T17:00:00Z", metadata={})
    assert Judge(60).judge(look(mirror(**made), before), 0) is None
    assert Judge(60).judge(look(mirror(**made), after), 0) is Fault.OTHER_LIFE


def test_a_mirror_that_goes_on_beyond_the_stream_is_wrong_at_once(judge: Judge) -> None:
    assert judge.judge(look(mirror(1, 11)), 0) is Fault.BEYOND_END


@pytest.mark.parametrize(
    "differing", [{"mirror": {"name": "MARKET", "filter_subject": "market.a.>"}}, {"storage": "memory"}]
)
def test_a_mirror_of_a_part_or_in_memory_is_made_again(judge: Judge, differing: dict[str, Any]) -> None:
    assert judge.judge(look(mirror(**differing)), 0) is Fault.NOT_WHOLE


def test_a_mirror_that_cannot_have_the_copies_its_stream_has_is_made_again(judge: Judge) -> None:
    written_late = mirror(persist_mode="async")
    assert judge.judge(look(written_late), 0) is None
    assert judge.judge(look(written_late, info(name="MARKET", num_replicas=3)), 0) is Fault.CANNOT_REPLICATE


def test_a_beginning_that_is_missing_twice_is_lost(judge: Judge) -> None:
    assert judge.judge(look(mirror(5, 10)), 0) is None
    assert judge.judge(look(mirror(5, 10)), 5) is Fault.LOST_START


def test_a_purged_mirror_has_lost_its_beginning(judge: Judge) -> None:
    assert judge.judge(look(mirror(11, 10, 0)), 0) is None
    assert judge.judge(look(mirror(11, 10, 0)), 5) is Fault.LOST_START


def test_an_aging_stream_may_be_a_little_behind_its_mirror(judge: Judge) -> None:
    for first in range(1, 9):
        assert judge.judge(look(mirror(first + 1, 10), info(first, 10, name="MARKET")), first * 5.0) is None


def test_a_mirror_that_has_not_begun_has_lost_nothing(judge: Judge) -> None:
    stored = info(500, 600, name="MARKET")
    for now in (0.0, 5.0):
        assert judge.judge(look(mirror(0, 0, 0), stored, 1.0), now) is None


@pytest.mark.parametrize("held", [9, 8])
def test_another_number_of_events_between_the_same_two_seen_twice_is_wrong(judge: Judge, held: int) -> None:
    stored = info(1, 10, 17 - held, name="MARKET")
    assert judge.judge(look(mirror(1, 10, held), stored), 0) is None
    assert judge.judge(look(mirror(1, 10, held), stored), 5) is Fault.OTHER_CONTENT


def test_counts_of_a_mirror_that_is_behind_are_not_compared(judge: Judge) -> None:
    for now in (0.0, 5.0, 10.0):
        assert judge.judge(look(mirror(1, 8, 8), info(1, 10, 10, name="MARKET"), 0.1), now) is None


def test_no_progress_for_the_whole_time_is_a_stall_and_progress_starts_it_anew(judge: Judge) -> None:
    behind = look(mirror(1, 5), lag_seconds=1.0)
    assert judge.judge(behind, 0) is None
    assert judge.judge(behind, 59) is None
    assert judge.judge(look(mirror(1, 6), lag_seconds=1.0), 60) is None
    assert judge.judge(look(mirror(1, 6), lag_seconds=1.0), 119) is None
    assert judge.judge(look(mirror(1, 6), lag_seconds=1.0), 120) is Fault.STALLED


def test_being_level_in_between_starts_the_wait_anew(judge: Judge) -> None:
    behind = look(mirror(1, 5), lag_seconds=1.0)
    assert judge.judge(behind, 0) is None
    assert judge.judge(look(mirror()), 59) is None
    assert judge.judge(behind, 60) is None


def test_repairs_that_do_not_help_become_rare(judge: Judge) -> None:
    behind = look(mirror(1, 5), lag_seconds=1.0)
    waits, now = [], 0.0
    for _ in range(8):
        began = now
        while judge.judge(behind, now) is None:
            now += 10
        waits.append(now - began)
        judge.repaired()
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert judge.judge(look(mirror()), now) is None
    assert judge.judge(behind, now) is None
    assert judge.judge(behind, now + 60) is Fault.STALLED


def test_what_is_no_mirror_of_the_stream_is_not_ours() -> None:
    assert is_ours(SPEC, mirror())
    assert not is_ours(SPEC, info())
    assert not is_ours(SPEC, mirror(mirror={"name": "PLANS"}))
    assert not is_ours(SPEC, mirror(mirror={"name": "MARKET", "external": {"api": "$JS.hub.API"}}))


def test_a_lag_is_told_only_where_an_event_is_lacking() -> None:
    assert look(mirror(1, 5), lag_seconds=2.0).lag_messages == 5
    assert look(mirror(1, 5), lag_seconds=None).lag_messages == 0
