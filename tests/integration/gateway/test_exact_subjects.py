"""Far back, the events of one order or deal are read by exact subject; a set that is not complete is never used."""

from typing import Any

import pytest

from services.gateway.bus import subjects
from services.gateway.bus.history import History
from services.gateway.core import connection, replay
from services.local.embedded import EmbeddedNats
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.marketplace import Marketplace
from tests.harness.streams import looking_at

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLD: dict[str, Any] = {"log_bytes": 1024**2, "log_warm_events": 0}


@pytest.fixture(autouse=True)
def _far_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SHARED_PAGES_DISTANCE", 20)
    monkeypatch.setattr(connection, "page_needed", replay.page_needed)


async def store(market: Marketplace, subject: str) -> str:
    """One event at this very subject, whatever its publisher's contract; its id."""
    sequence = await market.raw(subject, b'{"specversion":"1.0","id":"e","source":"urn:t","type":"ORDER_CREATED"}')
    return await market.cursor(sequence)


async def quiet(market: Marketplace) -> None:
    """So much of others that what came before is far back."""
    await market.orders(60)
    await market.mirrored()


async def replayed(gateway: Gateway, channel: str, sub: str = "root", role: str = "admin", **start: Any) -> list[str]:
    async with gateway.websocket(sub, role) as socket:
        messages = await socket.subscribe(channel, **(start or {"cursor": "earliest"}))
    assert all(message["op"] != "gap" for message in messages)
    return [message["cursor"] for message in messages if message["op"] == "event"]


async def test_an_id_that_was_given_twice_hides_none_of_its_events(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    first = await store(market, "market.i1.b1.n1.order.o1")
    paid = await store(market, "market.i9.b1.n9.payment.o1")  # of another deal, which nobody could have guessed
    await store(market, "market.i1.b1.n1.negotiation.o1")  # bears the id, and is not of the channel
    second = await store(market, "market.i2.b2.n2.order.o1")
    await quiet(market)
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        assert await replayed(gateway, "order:o1") == [first, paid, second]
        assert await replayed(gateway, "order:o1", "b1", "buyer") == [first, paid]
        assert await replayed(gateway, "order:o1", "n2", "node") == [second]
        assert await replayed(gateway, "order:o1", "stranger", "buyer") == []
        assert await replayed(gateway, "order:o1", last=2) == [paid, second]


async def test_a_subject_that_is_born_after_a_look_up_is_found_by_the_next(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    first = await store(market, "market.i1.b1.n1.order.o1")
    await quiet(market)
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        assert gateway.replica is not None
        stream = gateway.replica.streams["MARKET"]
        assert await replayed(gateway, "order:o1") == [first]
        second = await store(market, "market.i2.b2.n2.order.o1")
        await quiet(market)
        end = (await market.state()).last
        stream.restart("expired", stream.log.life.epoch, end)  # as if its log had moved on and let go of them
        assert await replayed(gateway, "order:o1") == [first, second]


async def test_a_deal_of_many_subjects_is_read_whole(
    market: Marketplace, fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [await store(market, f"market.i1.b1.n{number}.quote.q{number}") for number in range(8)]
    await quiet(market)
    async with running_gateway(fresh_nats.url, **COLD) as gateway:
        for most in (8, 7, 1):
            monkeypatch.setattr(subjects, "MOST_SUBJECTS", most)
            monkeypatch.setattr(subjects, "_MOST_LOOKED_AT", most)
            assert gateway.replica is not None
            archive = gateway.replica.streams["MARKET"].archive
            assert isinstance(archive, History)
            archive._here._subjects._found.clear()
            assert await replayed(gateway, "intent:i1") == stored
            assert await replayed(gateway, "intent:i1", "n3", "node") == [stored[3]]


async def test_an_orders_replay_asks_the_stream_that_takes_the_writes_for_exact_subjects_alone(
    market: Marketplace, fresh_nats: EmbeddedNats
) -> None:
    stored = [await store(market, f"market.i1.b1.n1.{kind}.o1") for kind in ("order", "payment", "order")]
    await quiet(market)
    async with running_gateway(fresh_nats.url, **COLD) as gateway, looking_at(fresh_nats.url) as client:
        asked = await client.subscribe("$JS.API.DIRECT.GET.>")
        assert await replayed(gateway, "order:o1", "b1", "buyer") == stored
        seen = [await asked.next_msg(timeout=5)]
        while asked.pending_msgs:
            seen.append(await asked.next_msg(timeout=5))
        assert not [one.data for one in seen if one.subject.endswith(".MARKET") and b"*" in one.data]
        scans = [one.data for one in seen if one.subject.endswith(".MARKET_REPLAY")]
        assert len(scans) == 1
        assert b"multi_last" in scans[0]
