"""Rounds of the reconciler against a real nats-server."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.topology import EPOCH, GIB, StreamSpec, streams
from services.chassis.jetstream import StreamMissing, ensure, request, state
from services.local.embedded import EmbeddedNats
from services.relay.reconciler import Reconciler
from services.relay.report import StreamReport
from tests.harness.waiting import until

MIB = 1024**2
SPECS = streams(market_max_bytes=64 * MIB)
MARKET = SPECS[0]


@pytest.fixture
def reconciler(client: Client) -> Reconciler:
    return Reconciler(client, SPECS)


async def config(client: Client, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = (await request(client, f"STREAM.INFO.{stream}"))["config"]
    return found


async def update(client: Client, stream: str, **changes: Any) -> None:
    await request(client, f"STREAM.UPDATE.{stream}", {**await config(client, stream), **changes})


async def publish(client: Client, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        answer = await client.request(f"market.i.b.n.order.o{number}", b"{}")
        assert "error" not in json.loads(answer.data)


async def is_copy(client: Client, count: int) -> None:
    """Wait until stream and mirror hold the same `count` events."""

    async def bounds() -> bool:
        stream, mirror = await state(client, "MARKET"), await state(client, "MARKET_REPLAY")
        held = [(found.first, found.last, found.messages) for found in (stream, mirror)]
        return held[0] == held[1] and stream.messages == count

    await until(bounds, what="the mirror is a copy again")


def market(reports: list[StreamReport]) -> StreamReport:
    return next(report for report in reports if report.name == "MARKET")


async def rounds_until_repaired(reconciler: Reconciler, most: int = 4) -> str:
    """Why the mirror was made again, within `most` rounds."""
    for _ in range(most):
        report = market(await reconciler.round())
        if report.repaired is not None:
            return report.repaired
    raise AssertionError(f"not repaired within {most} rounds")


async def test_an_empty_site_becomes_the_topology_in_one_round(client: Client, reconciler: Reconciler) -> None:
    reports = await reconciler.round()
    assert [report.name for report in reports] == ["MARKET", "PLANS"]
    assert all(report.is_as_declared and report.mirror is not None for report in reports)
    assert (await config(client, "MARKET"))["max_bytes"] == 64 * MIB


async def test_a_second_round_changes_nothing(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    before = [await request(client, f"STREAM.INFO.{name}") for name in ("MARKET", "MARKET_REPLAY", "PLANS")]
    for report in await reconciler.round():
        assert (report.corrected, report.repaired, report.kept, report.wrong) == ([], None, [], [])
    after = [await request(client, f"STREAM.INFO.{name}") for name in ("MARKET", "MARKET_REPLAY", "PLANS")]
    assert [info["config"] for info in before] == [info["config"] for info in after]
    assert [info["created"] for info in before] == [info["created"] for info in after]


async def test_two_relays_at_once_on_an_empty_site_end_with_one_topology(client: Client) -> None:
    relays = [Reconciler(client, SPECS) for _ in range(4)]
    await asyncio.gather(*(relay.round() for relay in relays))
    every = await asyncio.gather(*(relay.round() for relay in relays))
    assert all(report.is_as_declared for reports in every for report in reports)
    assert (await config(client, "MARKET"))["allow_direct"]
    assert not (await config(client, "MARKET_REPLAY"))["mirror_direct"]


async def test_drift_is_corrected_and_nothing_stored_is_lost(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    await publish(client, 10)
    await update(
        client, "MARKET", discard="old", duplicate_window=10**9, allow_direct=False, max_bytes=MIB, max_msgs=1000
    )
    report = market(await reconciler.round())
    assert set(report.corrected) == {"discard", "duplicate_window", "max_bytes", "max_msgs"}
    found = await config(client, "MARKET")
    assert (found["discard"], found["max_bytes"], found["max_msgs"]) == ("new", 64 * MIB, -1)
    assert found["allow_direct"]
    assert report.is_as_declared
    await is_copy(client, 10)


async def test_a_smaller_size_is_refused_and_told_unless_shrinking_is_allowed(client: Client) -> None:
    await Reconciler(client, SPECS).round()
    smaller = streams(market_max_bytes=8 * MIB)
    report = market(await Reconciler(client, smaller).round())
    assert report.is_as_declared
    assert report.kept == ["max_bytes stays 64 MiB, more than the 8 MiB of the topology"]
    assert (await config(client, "MARKET"))["max_bytes"] == 64 * MIB
    report = market(await Reconciler(client, smaller, allow_shrink=True).round())
    assert report.kept == []
    assert (await config(client, "MARKET"))["max_bytes"] == 8 * MIB


async def test_a_stream_made_by_hand_gets_the_epoch_of_its_creation(client: Client, reconciler: Reconciler) -> None:
    await request(client, "STREAM.CREATE.MARKET", {"name": "MARKET", "subjects": ["market.>"], "max_bytes": 64 * MIB})
    before = (await state(client, "MARKET")).epoch
    report = market(await reconciler.round())
    assert report.stream is not None
    assert (await config(client, "MARKET"))["metadata"][EPOCH] == report.stream.epoch == before
    assert (await config(client, "MARKET_REPLAY"))["metadata"][EPOCH] == before


async def test_one_setting_that_is_refused_does_not_hold_up_the_others(client: Client) -> None:
    await Reconciler(client, SPECS).round()
    await update(client, "MARKET", discard="old")
    report = market(await Reconciler(client, streams(market_max_bytes=64 * MIB, replicas=3)).round())
    assert (await config(client, "MARKET"))["discard"] == "new"
    assert not report.is_as_declared
    assert "num_replicas cannot be 3" in report.wrong[0]


async def test_no_room_to_grow_is_told_with_the_room_there_is(client: Client) -> None:
    await Reconciler(client, SPECS).round()
    report = market(await Reconciler(client, streams(market_max_bytes=2**49)).round())
    assert "MiB free" in report.wrong[0]
    assert not report.no_room, "the stream is there and serves"


async def test_no_room_for_a_stream_is_told_and_the_other_streams_are_made(
    make_nats: Callable[..., EmbeddedNats], client: Client
) -> None:
    report = market(await Reconciler(client, streams(market_max_bytes=2**49)).round())
    assert report.no_room
    assert "MiB free" in report.wrong[0]
    assert (await state(client, "PLANS")).name == "PLANS"


async def test_a_stream_made_again_gets_a_mirror_of_its_own_life(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    await publish(client, 20)
    await is_copy(client, 20)
    await request(client, "STREAM.DELETE.MARKET")
    await ensure(client, [MARKET])
    await publish(client, 3)
    assert await rounds_until_repaired(reconciler, 1) == "other_life"
    await is_copy(client, 3)
    assert (await state(client, "MARKET_REPLAY")).epoch == (await state(client, "MARKET")).epoch
    assert market(await reconciler.round()).repaired is None


async def test_a_stream_that_is_gone_is_not_begun_empty_while_its_mirror_holds_events(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    await publish(client, 5)
    await is_copy(client, 5)
    await request(client, "STREAM.DELETE.MARKET")
    report = market(await reconciler.round())
    assert not report.is_as_declared
    assert "MARKET_REPLAY still holds 5 of its events" in report.wrong[0]
    with pytest.raises(StreamMissing):
        await state(client, "MARKET")
    assert (await state(client, "MARKET_REPLAY")).messages == 5
    report = market(await Reconciler(client, SPECS, allow_shrink=True).round())
    assert report.is_as_declared
    assert report.stream is not None
    assert report.stream.messages == 0


async def test_a_stream_that_is_gone_with_nothing_in_its_mirror_is_made_again(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    await request(client, "STREAM.DELETE.MARKET")
    assert market(await reconciler.round()).is_as_declared


async def test_a_mirror_that_was_deleted_is_made_and_filled(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    await publish(client, 5)
    await request(client, "STREAM.DELETE.MARKET_REPLAY")
    assert market(await reconciler.round()).is_as_declared
    await is_copy(client, 5)


async def test_a_mirror_that_was_wiped_is_made_again(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    await publish(client, 5)
    await is_copy(client, 5)
    await request(client, "STREAM.PURGE.MARKET_REPLAY")
    assert await rounds_until_repaired(reconciler) == "lost_start"
    await is_copy(client, 5)


async def test_a_mirror_whose_server_was_killed_holds_what_its_stream_holds(
    fresh_nats: EmbeddedNats, client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    assert (await config(client, "MARKET_REPLAY"))["persist_mode"] == "async"
    await publish(client, 300)
    await asyncio.to_thread(fresh_nats.kill)
    await asyncio.to_thread(fresh_nats.start)
    await until(lambda: client.is_connected, what="the client is back")
    await publish(client, 5, start=300)
    await is_copy(client, 305)
    assert market(await reconciler.round()).is_as_declared


async def test_a_mirror_made_before_it_wrote_in_its_own_time_is_left_as_it_is(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    now = await config(client, "MARKET_REPLAY")
    await request(client, "STREAM.DELETE.MARKET_REPLAY")
    await request(client, "STREAM.CREATE.MARKET_REPLAY", {**now, "persist_mode": "default"})
    assert market(await reconciler.round()).is_as_declared
    assert market(await reconciler.round()).corrected == []
    assert "persist_mode" not in await config(client, "MARKET_REPLAY")


async def test_a_mirror_with_a_hole_is_made_again(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    await publish(client, 5)
    await is_copy(client, 5)
    await request(client, "STREAM.MSG.DELETE.MARKET_REPLAY", {"seq": 3})
    assert await rounds_until_repaired(reconciler) == "other_content"
    await is_copy(client, 5)


async def test_an_event_erased_from_the_stream_does_not_live_on_in_the_mirror(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    await publish(client, 5)
    await is_copy(client, 5)
    await request(client, "STREAM.MSG.DELETE.MARKET", {"seq": 3})
    assert await rounds_until_repaired(reconciler) == "other_content"
    await is_copy(client, 4)


async def test_what_was_purged_from_the_stream_is_purged_from_the_mirror(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    await publish(client, 10)
    await is_copy(client, 10)
    await request(client, "STREAM.PURGE.MARKET", {"seq": 7})
    report = market(await reconciler.round())
    assert report.repaired is None
    await is_copy(client, 4)
    await publish(client, 1, start=10)
    await is_copy(client, 5)
    await request(client, "STREAM.PURGE.MARKET")
    await reconciler.round()
    assert (await state(client, "MARKET_REPLAY")).messages == 0
    assert market(await reconciler.round()).repaired is None


async def test_a_mirror_that_goes_on_beyond_the_stream_is_made_again(client: Client, reconciler: Reconciler) -> None:
    await reconciler.round()
    await publish(client, 9)
    await is_copy(client, 9)
    epoch = (await state(client, "MARKET")).config["metadata"]
    await request(client, "STREAM.DELETE.MARKET")
    same_epoch = {"name": "MARKET", "subjects": ["market.>"], "metadata": epoch, "max_bytes": 64 * MIB}
    await request(client, "STREAM.CREATE.MARKET", same_epoch)
    await publish(client, 2)
    assert await rounds_until_repaired(reconciler, 1) == "beyond_end"
    await is_copy(client, 2)


async def test_a_mirror_that_gets_nothing_is_made_again(client: Client) -> None:
    reconciler = Reconciler(client, SPECS, stall_seconds=0)
    await reconciler.round()
    await publish(client, 1)
    await is_copy(client, 1)
    # Sealed, a mirror takes nothing more; JetStream tells no error and no lag.
    await update(client, "MARKET_REPLAY", sealed=True)
    await publish(client, 4, start=1)
    assert await rounds_until_repaired(reconciler) == "stalled"
    await is_copy(client, 5)


async def test_a_mirror_of_a_part_of_the_stream_is_made_again(client: Client, reconciler: Reconciler) -> None:
    part = {"name": "MARKET_REPLAY", "mirror": {"name": "MARKET", "filter_subject": "market.a.>"}}
    await reconciler.round()
    await request(client, "STREAM.DELETE.MARKET_REPLAY")
    await request(client, "STREAM.CREATE.MARKET_REPLAY", part)
    await publish(client, 2)
    assert await rounds_until_repaired(reconciler, 1) == "not_whole"
    await is_copy(client, 2)


async def test_settings_of_a_mirror_are_corrected_without_copying_it_again(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    await publish(client, 5)
    await is_copy(client, 5)
    before = (await request(client, "STREAM.INFO.MARKET_REPLAY"))["created"]
    await update(client, "MARKET_REPLAY", discard="new", allow_direct=False, max_age=10**18, metadata={})
    report = market(await reconciler.round())
    assert {"mirror discard", "mirror allow_direct", "mirror max_age", "mirror metadata"} <= set(report.corrected)
    found = await request(client, "STREAM.INFO.MARKET_REPLAY")
    assert (found["config"]["discard"], found["config"]["max_age"]) == ("old", 0)
    assert found["config"]["metadata"][EPOCH] == (await state(client, "MARKET")).epoch
    assert not found["config"]["mirror_direct"]
    assert found["created"] == before


async def test_a_mirror_that_may_answer_for_its_stream_again_after_a_restart_is_put_right(
    client: Client, fresh_nats: EmbeddedNats, reconciler: Reconciler
) -> None:
    await reconciler.round()
    fresh_nats.stop()
    fresh_nats.start()
    await until(lambda: client.stats["reconnects"] == 1)
    await reconciler.round()
    for name in ("MARKET", "PLANS"):
        assert (await config(client, name))["allow_direct"]
        assert not (await config(client, f"{name}_REPLAY"))["mirror_direct"]


async def test_a_stream_under_the_mirrors_name_that_is_none_is_left_alone(
    client: Client, reconciler: Reconciler
) -> None:
    await request(client, "STREAM.CREATE.MARKET_REPLAY", {"name": "MARKET_REPLAY", "subjects": ["mine.>"]})
    await client.request("mine.precious", b"1")
    report = market(await reconciler.round())
    assert report.wrong == ["MARKET_REPLAY is not a mirror of MARKET; it is left alone"]
    assert (await state(client, "MARKET_REPLAY")).messages == 1


async def test_a_mirror_that_somebody_else_repaired_meanwhile_is_not_deleted(
    client: Client, reconciler: Reconciler
) -> None:
    await reconciler.round()
    await request(client, "STREAM.DELETE.MARKET")
    await ensure(client, [MARKET])
    first, second = await asyncio.gather(*(Reconciler(client, [MARKET]).round() for _ in range(2)))
    assert {market(first).repaired, market(second).repaired} <= {"other_life", None}
    assert market(await reconciler.round()).is_as_declared
    await publish(client, 2)
    await is_copy(client, 2)


async def test_the_lag_is_the_age_of_the_oldest_event_that_the_mirror_lacks(client: Client) -> None:
    await ensure(client, SPECS)
    await publish(client, 1)
    await is_copy(client, 1)
    await update(client, "MARKET_REPLAY", sealed=True)
    await publish(client, 3, start=1)
    reconciler = Reconciler(client, SPECS)

    async def lags() -> bool:
        mirror = market(await reconciler.look()).mirror
        assert mirror is not None
        assert mirror.lag_messages == 3
        return mirror.lag_seconds > 0.1

    await until(lags)
    for sequence in (2, 3, 4):
        await request(client, "STREAM.MSG.DELETE.MARKET", {"seq": sequence})
    mirror = market(await reconciler.look()).mirror
    assert mirror is not None
    assert (mirror.lag_messages, mirror.lag_seconds) == (0, 0.0), "it lacks nothing that there is"


async def test_a_look_changes_nothing_and_tells_what_a_round_would_change(client: Client) -> None:
    reconciler = Reconciler(client, SPECS)
    assert [report.stream for report in await reconciler.look()] == [None, None]
    with pytest.raises(StreamMissing):
        await state(client, "MARKET")
    await reconciler.round()
    await update(client, "MARKET", discard="old")
    assert market(await reconciler.look()).wrong == ["discard differs from the topology"]
    assert (await config(client, "MARKET"))["discard"] == "old"


async def test_a_stream_in_memory_is_told_and_left_alone(client: Client) -> None:
    await request(client, "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "storage": "memory"})
    (report,) = await Reconciler(client, [StreamSpec("S", ("s.>",), max_bytes=GIB)]).round()
    assert "kept in memory" in report.wrong[0]
    assert (await config(client, "S"))["storage"] == "memory"
