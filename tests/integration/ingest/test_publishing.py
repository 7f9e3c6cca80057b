"""Publishing on a real nats-server that all tests share: what is answered is what is stored."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.cursor import Cursor
from contracts.envelope import BATCH_CONTENT_TYPE
from tests.harness.events import TYPES, deal, event, fresh
from tests.harness.ingest import Publisher, publishing
from tests.harness.streams import all_of, end_of, looking_at, stored


@pytest.fixture
async def publisher(nats_server: str) -> AsyncIterator[Publisher]:
    async with publishing(nats_server) as publisher:
        await publisher.ready()
        yield publisher


@pytest.fixture
async def nats(nats_server: str) -> AsyncIterator[Client]:
    async with looking_at(nats_server) as client:
        yield client


@pytest.mark.parametrize("kind", TYPES)
async def test_an_event_is_stored_under_its_subject_and_its_id(kind: str, publisher: Publisher, nats: Client) -> None:
    document = event(kind)
    answer = (await publisher.one(document)).json()
    found = await stored(nats, answer["cursor"])
    assert (answer["id"], answer["duplicate"]) == (document["id"], False)
    assert found.document == document
    assert found.subject == document["subject"]
    assert found.headers["Nats-Msg-Id"] == document["id"]


async def test_a_cursor_bears_the_epoch_of_its_stream(publisher: Publisher, nats: Client) -> None:
    cursor = Cursor.parse((await publisher.one(event("ORDER_CREATED"))).json()["cursor"])
    assert (cursor.stream, cursor.epoch) == ("MARKET", (await end_of(nats)).epoch)


async def test_a_repetition_has_the_cursor_of_the_first_time(publisher: Publisher, nats: Client) -> None:
    document = event("ORDER_CREATED")
    first, second = (await publisher.one(document)).json(), (await publisher.one(document)).json()
    assert second == {**first, "duplicate": True}
    assert len(await all_of(nats, document["subject"])) == 1


async def test_one_event_sent_many_times_at_once_is_stored_once(publisher: Publisher, nats: Client) -> None:
    document = event("ORDER_CREATED")
    answers = [answer.json() for answer in await asyncio.gather(*(publisher.one(document) for _ in range(20)))]
    assert len({answer["cursor"] for answer in answers}) == 1
    assert [answer["duplicate"] for answer in answers].count(False) == 1
    assert len(await all_of(nats, document["subject"])) == 1


async def test_a_batch_is_answered_in_its_order_and_stored_in_each_subjects(publisher: Publisher, nats: Client) -> None:
    buyer = fresh("buyer")
    same: list[dict[str, Any]] = [{"buyer": buyer, "intent": fresh("i"), "order": fresh("o")} for _ in range(5)]
    for ids in same:
        ids["node"] = fresh("node")
    batch = [event("ORDER_CREATED", **same[index % 5]) for index in range(100)]
    answers = (await publisher.batch(batch)).json()
    assert [answer["id"] for answer in answers] == [document["id"] for document in batch]
    for lane in range(5):
        subject = batch[lane]["subject"]
        in_order = [document["id"] for document in batch[lane::5]]
        found = await all_of(nats, subject)
        assert [message.document["id"] for message in found] == in_order
        told = [Cursor.parse(answer["cursor"]).sequence for answer in answers[lane::5]]
        assert told == [message.sequence for message in found]


async def test_a_batch_of_the_largest_number_is_stored(publisher: Publisher) -> None:
    batch = [document for _ in range(100) for document in deal()]
    answers = (await publisher.batch(batch)).json()
    assert len(answers) == 500
    assert not any(answer["duplicate"] for answer in answers)
    again = (await publisher.batch(batch)).json()
    assert [answer["cursor"] for answer in again] == [answer["cursor"] for answer in answers]
    assert all(answer["duplicate"] for answer in again)


async def test_an_event_twice_in_one_batch_is_stored_once(publisher: Publisher, nats: Client) -> None:
    document = event("ORDER_CREATED")
    first, second = (await publisher.batch([document, document])).json()
    assert second == {**first, "duplicate": True}
    assert len(await all_of(nats, document["subject"])) == 1


async def test_nothing_of_a_batch_is_stored_where_one_event_does_not_fit(publisher: Publisher, nats: Client) -> None:
    good = [event("ORDER_CREATED") for _ in range(3)]
    misplaced = event("PAYMENT_SUCCEEDED", data={"buyer_id": "another"})
    answer = await publisher.batch([*good, misplaced])
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/3/data/buyer_id"]
    for document in good:
        assert await all_of(nats, document["subject"]) == []


async def test_an_event_of_nearly_the_largest_size_is_stored(publisher: Publisher, nats: Client) -> None:
    document = event("ORDER_CREATED", data={"note": "ü" * 120_000})
    answer = (await publisher.one(document)).json()
    assert (await stored(nats, answer["cursor"])).document == document


async def test_what_was_acknowledged_is_counted_without_any_id(publisher: Publisher) -> None:
    document = event("ORDER_CREATED")
    await publisher.one(document)
    await publisher.one(document)
    text = (await publisher.http.get("/metrics")).text
    assert 'a2a_ingest_events_total{outcome="stored",stream="MARKET"} 1.0' in text
    assert 'a2a_ingest_events_total{outcome="duplicate",stream="MARKET"} 1.0' in text
    assert await publisher.counted("a2a_ingest_publish_seconds_count") == 2
    assert not any(value in text for value in (document["id"], document["data"]["order_id"], "publisher"))


async def test_readiness_tells_region_durability_and_epochs(publisher: Publisher, nats: Client) -> None:
    found = await publisher.readiness()
    assert found["failing"] == {}
    assert found["region"] == "local"
    assert found["durability"] == {"replicas": 1, "sync": "unknown"}
    assert found["epochs"] == {name: (await end_of(nats, name)).epoch for name in ("MARKET", "PLANS")}
    assert (await publisher.one(event("ORDER_CREATED"))).headers["durability"] == "replicas=1; sync=unknown"


async def test_the_contracts_are_served_beside(publisher: Publisher) -> None:
    listing = (await publisher.http.get("/v1/contracts")).json()["contracts"]
    assert {each["type"] for each in listing} == set(TYPES)
    example = (await publisher.http.get(listing[0]["href"])).json()["examples"][0]
    assert (await publisher.one(example)).status_code == 200


async def test_two_instances_over_one_stream_know_each_others_events(publisher: Publisher, nats_server: str) -> None:
    document = event("ORDER_CREATED")
    async with publishing(nats_server) as other:
        await other.ready()
        first, second = (await publisher.one(document)).json(), (await other.one(document)).json()
    assert second == {**first, "duplicate": True}


async def test_a_body_too_large_is_refused_over_a_socket_and_the_connection_goes_on(nats_server: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65_536

    async with publishing(nats_server, batch_max_bytes=100_000) as publisher:
        await publisher.ready()
        for body in (chunks(), b" " * 4_000_000):
            headers = {"Content-Type": BATCH_CONTENT_TYPE}
            answer = await publisher.http.post("/v1/events", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")
        assert (await publisher.one(event("ORDER_CREATED"))).status_code == 200
