"""Publishing while NATS is away, dies, stands still or is full: nothing acknowledged is lost, nothing stored twice."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from contracts.cursor import Cursor, epoch_is_older
from contracts.topology import fleet, streams
from services.chassis.jetstream import ensure, request
from services.local.embedded import EmbeddedNats
from tests.harness.events import event, fresh
from tests.harness.ingest import Publisher, publishing
from tests.harness.streams import all_of, end_of, forget, looking_at
from tests.harness.waiting import freeze, until

STORED = "a2a_ingest_events_total"


def orders(number: int) -> list[dict[str, Any]]:
    """Events of one subject: they go one after the other, so that an outage finds some stored and some not."""
    ids: dict[str, Any] = {name: fresh(name) for name in ("intent", "buyer", "node", "order", "negotiation")}
    return [event("ORDER_CREATED", **ids) for _ in range(number)]


def problem(answer: httpx.Response, code: str) -> Any:
    assert answer.status_code == 503
    assert answer.json()["code"] == code
    assert answer.json()["retryable"] is True
    assert int(answer.headers["retry-after"]) >= 1
    return answer.json()


async def ids_stored(url: str, subject: str) -> list[str]:
    async with looking_at(url) as nats:
        return [message.document["id"] for message in await all_of(nats, subject)]


async def begun(publisher: Publisher) -> None:
    """Wait until some of a batch is stored."""

    async def some_are_stored() -> bool:
        return await publisher.counted(STORED) > 10

    await until(some_are_stored, what="the batch has begun")


async def test_a_batch_survives_the_death_and_return_of_nats(fresh_nats: EmbeddedNats) -> None:
    batch = orders(500)
    async with publishing(fresh_nats.url, ack_timeout_s=1) as publisher:
        await publisher.ready()
        answering = asyncio.create_task(publisher.batch(batch))
        await begun(publisher)
        await asyncio.to_thread(fresh_nats.kill)
        assert not answering.done()
        await asyncio.to_thread(fresh_nats.start)
        answer = await answering
        assert answer.status_code == 200
        assert await ids_stored(fresh_nats.url, batch[0]["subject"]) == [each["id"] for each in batch]
        assert [Cursor.parse(each["cursor"]).sequence for each in answer.json()] == list(range(1, 501))


async def test_a_batch_cut_off_tells_what_is_stored_and_may_be_sent_again(fresh_nats: EmbeddedNats) -> None:
    batch = orders(500)
    async with publishing(fresh_nats.url, ack_timeout_s=0.3) as publisher:
        await publisher.ready()
        answering = asyncio.create_task(publisher.batch(batch))
        await begun(publisher)
        await asyncio.to_thread(fresh_nats.kill)
        known = problem(await answering, "store_unavailable")["details"]["stored"]
        assert 10 < len(known) < 500
        assert [each["id"] for each in known] == [each["id"] for each in batch[: len(known)]]
        problem(await publisher.one(event("ORDER_CREATED")), "store_unavailable")
        assert "nats" in (await publisher.readiness())["failing"]

        await asyncio.to_thread(fresh_nats.start)
        await publisher.ready()
        again = (await publisher.batch(batch)).json()
        for first, second in zip(known, again, strict=False):
            assert second == {**first, "duplicate": True}
        assert await ids_stored(fresh_nats.url, batch[0]["subject"]) == [each["id"] for each in batch]


async def test_a_nats_that_stands_still_is_told_and_a_repetition_stores_once(fresh_nats: EmbeddedNats) -> None:
    document = event("ORDER_CREATED")
    async with publishing(fresh_nats.url, ack_timeout_s=0.1) as publisher:
        await publisher.ready()
        assert fresh_nats.process is not None
        freeze(fresh_nats.process)
        problem(await publisher.one(document), "store_unavailable")
        assert await publisher.counted("a2a_ingest_publish_retries_total") == 2
        os.kill(fresh_nats.process.pid, signal.SIGCONT)

        async def is_stored() -> bool:
            return (await publisher.one(document)).status_code == 200

        await until(is_stored)
        assert await ids_stored(fresh_nats.url, document["subject"]) == [document["id"]]


async def test_readiness_falls_while_jetstream_does_not_answer_and_returns(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.streams.SURVEY_SECONDS", 0.1)
    monkeypatch.setattr("services.chassis.jetstream.REQUEST_SECONDS", 0.2)
    async with publishing(fresh_nats.url) as publisher:
        await publisher.ready()
        assert fresh_nats.process is not None
        freeze(fresh_nats.process)

        async def is_told() -> bool:
            return "does not answer" in (await publisher.readiness())["failing"].get("streams", "")

        await until(is_told)
        os.kill(fresh_nats.process.pid, signal.SIGCONT)
        await publisher.ready()


async def test_one_failure_stops_a_batch_before_its_other_subjects_begin(fresh_nats: EmbeddedNats) -> None:
    async with publishing(fresh_nats.url, market_max_bytes=64 * 1024, publish_window=1) as publisher:
        await publisher.ready()
        large = [event("ORDER_CREATED", data={"note": "x" * 40_000}) for _ in range(5)]
        found = problem(await publisher.batch(large), "store_full")
        assert len(found["details"]["stored"]) == 1
        # A small one would still fit; none of the batch was tried after the one that did not.
        assert await publisher.counted("a2a_ingest_publish_seconds_count") == 1
        assert (await publisher.one(event("ORDER_CREATED"))).status_code == 200


async def test_a_request_ends_by_its_deadline(fresh_nats: EmbeddedNats) -> None:
    async with publishing(fresh_nats.url, store_deadline_s=0.2) as publisher:
        await publisher.ready()
        assert fresh_nats.process is not None
        freeze(fresh_nats.process)
        try:
            answer = await publisher.batch([event("ORDER_CREATED") for _ in range(3)])
        finally:
            os.kill(fresh_nats.process.pid, signal.SIGCONT)
        found = problem(answer, "store_unavailable")
        assert "within 0.2 s" in found["detail"]
        assert "details" not in found


async def test_the_service_starts_before_nats_and_says_what_it_waits_for(
    make_nats: Callable[..., EmbeddedNats],
) -> None:
    nats = make_nats()
    with capture_logs() as logs:
        async with publishing(nats.url) as publisher:
            waiting = await until(lambda: [line for line in logs if line["event"] == "waiting_for_nats"])
            assert "Connect call failed" in waiting[0]["error"]
            assert (await publisher.http.get("/readyz")).status_code == 503
            nats.start()
            await publisher.ready()


async def test_a_service_that_never_met_nats_lives_and_refuses(make_nats: Callable[..., EmbeddedNats]) -> None:
    nats = make_nats()
    async with publishing(nats.url) as publisher:
        answer = await publisher.http.get("/readyz")
        assert answer.status_code == 503
        assert nats.url in answer.json()["failing"]["nats"]
        assert (await publisher.http.get("/livez")).status_code == 200
        problem(await publisher.one(event("ORDER_CREATED")), "unavailable")  # its token may be a revoked one
        nats.start()
        await publisher.ready()
        assert (await publisher.one(event("ORDER_CREATED"))).json()["cursor"].endswith(".1")


@pytest.mark.parametrize("declare", [True, False])
async def test_a_stream_made_again_gives_its_new_epoch_from_the_first_event_on(
    declare: bool, fresh_nats: EmbeddedNats
) -> None:
    async with looking_at(fresh_nats.url) as nats:
        await ensure(nats, (*streams(market_max_bytes=64 * 1024**2), *fleet()))
        async with publishing(fresh_nats.url, declare=declare) as publisher:
            await publisher.ready()
            old = [Cursor.parse((await publisher.one(each)).json()["cursor"]) for each in orders(5)]
            await forget(nats)
            await ensure(nats, (*streams(market_max_bytes=64 * 1024**2), *fleet()))
            # At once and many together: more than one finds out that what it knew is over.
            answers = (await publisher.batch([event("ORDER_CREATED") for _ in range(5)])).json()
            new = [Cursor.parse(each["cursor"]) for each in answers]
            epoch = (await end_of(nats)).epoch
            assert {cursor.epoch for cursor in new} == {epoch}
            assert sorted(cursor.sequence for cursor in new) == [1, 2, 3, 4, 5]
            assert epoch_is_older(old[0].epoch, epoch)


async def test_a_nats_that_lost_its_data_gives_the_new_epoch_and_not_the_old(fresh_nats: EmbeddedNats) -> None:
    async with publishing(fresh_nats.url) as publisher:
        await publisher.ready()
        old = Cursor.parse((await publisher.one(event("ORDER_CREATED"))).json()["cursor"])
        fresh_nats.kill()
        shutil.rmtree(fresh_nats.folder / "jetstream")
        fresh_nats.start()
        async with looking_at(fresh_nats.url) as nats:
            await ensure(nats, (*streams(market_max_bytes=64 * 1024**2), *fleet()))
            # Others were quicker: the new stream is further than the old one ever was.
            for sequence in range(5):
                await nats.jetstream().publish(f"market.i.b.n.order.o{sequence}", b"{}")

            async def new_cursor() -> Cursor | None:
                answer = await publisher.one(event("ORDER_CREATED"))
                return Cursor.parse(answer.json()["cursor"]) if answer.status_code == 200 else None

            cursor = await until(new_cursor)
            assert cursor.epoch == (await end_of(nats)).epoch != old.epoch


async def test_a_stream_that_is_gone_is_not_made_behind_the_operators_back(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.streams.SURVEY_SECONDS", 0.1)
    async with publishing(fresh_nats.url) as publisher, looking_at(fresh_nats.url) as nats:
        await publisher.ready()
        await forget(nats)
        problem(await publisher.one(event("ORDER_CREATED")), "store_unavailable")

        async def is_told() -> bool:
            return "MARKET" in (await publisher.readiness())["failing"].get("streams", "")

        await until(is_told)
        await ensure(nats, (*streams(market_max_bytes=64 * 1024**2), *fleet()))
        await publisher.ready()


async def test_another_stream_on_the_same_subjects_takes_nothing(fresh_nats: EmbeddedNats) -> None:
    async with publishing(fresh_nats.url) as publisher, looking_at(fresh_nats.url) as nats:
        await publisher.ready()
        await forget(nats)
        await request(nats, "STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["market.>"], "storage": "file"})
        assert "refused" in problem(await publisher.one(event("ORDER_CREATED")), "store_unavailable")["detail"]
        assert (await end_of(nats, "OTHER")).messages == 0


async def test_a_full_stream_is_told_and_what_went_in_is_kept(fresh_nats: EmbeddedNats) -> None:
    async with publishing(fresh_nats.url, market_max_bytes=64 * 1024) as publisher:
        await publisher.ready()
        batch = orders(200)
        found = problem(await publisher.batch(batch), "store_full")
        known = found["details"]["stored"]
        assert "maximum bytes" in found["detail"]
        assert 0 < len(known) < len(batch)
        assert await ids_stored(fresh_nats.url, batch[0]["subject"]) == [each["id"] for each in batch[: len(known)]]
        assert problem(await publisher.one(batch[-1]), "store_full")["retry_after_ms"] == 30_000


async def test_a_server_without_storage_left_is_full_too(make_nats: Callable[..., EmbeddedNats]) -> None:
    nats = make_nats("max_file_store: 1MB").start()
    async with looking_at(nats.url) as client:
        # Without a size of its own the stream reserves nothing: the server's limit is met by writing.
        for name, subject in (("MARKET", "market"), ("PLANS", "plan"), ("CONTROL", "control")):
            made = {"name": name, "subjects": [f"{subject}.>"], "storage": "file", "allow_direct": True}
            await request(client, f"STREAM.CREATE.{name}", made)
        async with publishing(nats.url, declare=False) as publisher:
            await publisher.ready()
            large = [event("ORDER_CREATED", data={"note": "x" * 100_000}) for _ in range(20)]
            problem(await publisher.batch(large), "store_full")


async def test_a_server_that_cannot_reserve_the_stream_ends_the_service_with_the_reason(
    make_nats: Callable[..., EmbeddedNats],
) -> None:
    nats = make_nats("max_file_store: 16MB").start()
    fatal: list[str] = []
    async with publishing(nats.url, fatal=fatal) as publisher:
        await until(lambda: fatal)
        assert (await publisher.http.get("/readyz")).status_code == 503
    assert "MARKET" in fatal[0]
    assert "A2A_MARKET_MAX_BYTES" in fatal[0]
    assert "\n" not in fatal[0]


async def test_the_disk_sync_is_told_where_the_monitoring_port_is_known(fresh_nats: EmbeddedNats) -> None:
    async with publishing(fresh_nats.url, nats_monitor_url=fresh_nats.monitor_url) as publisher:
        await publisher.ready()
        assert (await publisher.readiness())["durability"] == {"replicas": 1, "sync": "120s"}
