"""Reactions on a real nats-server: once, in order, never lost; what cannot be handled is put aside."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.contract import Event
from contracts.errors import ErrorCode, Problem, Refused
from services.chassis import jetstream
from services.chassis.aggregates import Cause
from services.chassis.deadletters import DeadLetter, bury, letters, payload_of, remove
from services.chassis.reactions import Handler, Later, Reactions, Source
from services.chassis.telemetry import logger
from services.local.embedded import EmbeddedNats
from tests.harness.events import event, fresh
from tests.harness.streams import looking_at
from tests.harness.toys import Site, Toy, command, storing
from tests.harness.waiting import until


class Seen:
    """A handler that remembers, and fails as often as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.events: list[str] = []
        self.tries = 0
        self._failures = list(failures)

    async def __call__(self, event: Event) -> Later | None:
        self.tries += 1
        if self._failures:
            raise self._failures.pop(0)
        self.events.append(event.envelope.id)
        return None


def source(handler: Handler, **more: Any) -> Source:
    return Source("toys", {"ORDER_CREATED": handler}, **more)


@contextlib.asynccontextmanager
async def reacting(site: Site, url: str, one: Source, service: str = "tests") -> AsyncIterator[Reactions]:
    found = Reactions(service, [one], site.streams, nats_url=url, metrics=site.metrics, log=logger("test"))
    running = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled() or running.exception() is None


async def publish(client: Client, *documents: dict[str, Any]) -> list[str]:
    for document in documents:
        await client.jetstream().publish(document["subject"], json.dumps(document).encode())
    return [document["id"] for document in documents]


def outcome(site: Site, name: str) -> float:
    return site.counted("a2a_reactions_total", service="tests", consumer="toys", outcome=name)


async def test_each_event_is_reacted_to_once_and_in_order(fresh_nats: EmbeddedNats) -> None:
    seen, url = Seen(), fresh_nats.url
    async with storing(url) as site, looking_at(url) as client:
        before = await publish(client, *(event("ORDER_CREATED") for _ in range(20)))
        async with reacting(site, url, source(seen)) as reactions:
            others = [event("ORDER_CONFIRMED"), event("QUOTE_RECEIVED")]
            after = await publish(client, *others, *(event("ORDER_CREATED") for _ in range(20)))
            await until(lambda: len(seen.events) == 40)
            await until(lambda: reactions.failing() is None)
        assert seen.events == before + after[2:]
        async with reacting(site_with_fresh_metrics(site), url, source(seen)):
            more = await publish(client, event("ORDER_CREATED"))
            await until(lambda: len(seen.events) == 41)
        assert seen.events[-1:] == more
        assert outcome(site, "done") == 40


def site_with_fresh_metrics(site: Site) -> Site:
    from prometheus_client import CollectorRegistry

    return Site(site.store, site.streams, CollectorRegistry())


async def test_what_may_pass_is_tried_in_place_for_as_long_as_it_takes(fresh_nats: EmbeddedNats) -> None:
    busy = Refused(Problem(ErrorCode.STORE_UNAVAILABLE))
    seen, url = Seen(busy, busy, TimeoutError(), busy, busy), fresh_nats.url
    async with storing(url) as site, looking_at(url) as client, reacting(site, url, source(seen)):
        ids = await publish(client, event("ORDER_CREATED"), event("ORDER_CREATED"))
        await until(lambda: seen.events == ids)
        assert (outcome(site, "retried"), outcome(site, "done")) == (5, 2)
        assert [one async for one in letters(client, "tests")] == []


@pytest.mark.parametrize(
    ("poison", "told"),
    [
        (b"{", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"type":"ORDER_CREATED"}', "ContractViolation"),
        (None, "RuntimeError: a bug"),
    ],
)
async def test_poison_is_put_aside_with_the_reason_and_the_next_goes_on(
    fresh_nats: EmbeddedNats, poison: bytes | None, told: str
) -> None:
    url, bug = fresh_nats.url, RuntimeError("a bug\nof two lines")
    seen = Seen(bug, bug, bug) if poison is None else Seen()
    async with storing(url) as site, looking_at(url) as client, reacting(site, url, source(seen)):
        payload = poison or json.dumps(event("ORDER_CREATED")).encode()
        stored = await client.jetstream().publish("market.i.b.n.order.o", payload)
        ids = await publish(client, event("ORDER_CREATED"))
        await until(lambda: seen.events == ids)
        (letter,) = [one async for one in letters(client, "tests")]
        assert (letter.stream, letter.subject, letter.sequence) == ("MARKET", "market.i.b.n.order.o", stored.seq)
        assert (letter.consumer, letter.payload) == ("toys", payload)
        assert told in letter.reason
        assert outcome(site, "dead") == 1
        assert [one async for one in letters(client, "others")] == []
        await remove(client, letter)
        assert [one async for one in letters(client, "tests")] == []


@pytest.mark.parametrize(("spare", "whole"), [(0, False), (300, False), (1024, True)])
async def test_poison_of_the_largest_size_is_put_aside_and_its_payload_is_found(
    fresh_nats: EmbeddedNats, spare: int, whole: bool
) -> None:
    async with storing(fresh_nats.url), looking_at(fresh_nats.url) as client:
        payload = b"{" * (client.max_payload - spare)
        stored = await client.jetstream().publish("market.i.b.n.order.o", payload)
        why = "a long reason" * 20
        poison = DeadLetter("tests", "toys", "MARKET", "market.i.b.n.order.o", stored.seq, why, payload)
        assert await bury(client, poison)
        (letter,) = [one async for one in letters(client, "tests")]
        assert (letter.sequence, letter.reason, letter.whole) == (stored.seq, why, whole)
        assert await payload_of(client, letter) == payload


async def test_a_timer_comes_again_when_its_moment_has_come_and_survives_restarts(fresh_nats: EmbeddedNats) -> None:
    url, due = fresh_nats.url, datetime.now(UTC) + timedelta(seconds=2.5)
    asked: list[str] = []
    rung: list[tuple[str, datetime]] = []

    async def ring(event: Event) -> Later | None:
        asked.append(event.envelope.id)
        if datetime.now(UTC) < due:
            return Later(due)
        rung.append((event.envelope.id, datetime.now(UTC)))
        return None

    async with storing(url) as site, looking_at(url) as client:
        async with reacting(site, url, source(ring, timers=True)):
            ids = await publish(client, *(event("ORDER_CREATED") for _ in range(5)))
            await until(lambda: len(asked) == 5)
            await until(lambda: site.counted("a2a_reactions_timers", service="tests", consumer="toys") == 5)
        fresh_nats.kill()
        fresh_nats.start()
        await until(lambda: client.stats["reconnects"] == 1)
        async with reacting(site_with_fresh_metrics(site), url, source(ring, timers=True)):
            await until(lambda: len(rung) >= 5, seconds=20)
        assert sorted(one for one, _ in rung) == sorted(ids)
        assert all(due <= at for _, at in rung)
        assert max(at for _, at in rung) < due + timedelta(seconds=5)


async def test_what_is_in_hand_when_the_service_ends_is_not_acknowledged(fresh_nats: EmbeddedNats) -> None:
    url = fresh_nats.url
    busy, seen = Seen(*[Refused(Problem(ErrorCode.CONFLICT)) for _ in range(100)]), Seen()
    async with storing(url) as site, looking_at(url) as client:
        async with reacting(site, url, source(busy)):
            ids = await publish(client, event("ORDER_CREATED"), event("ORDER_CREATED"))
            await until(lambda: busy.tries > 1)
        assert outcome(site, "given_back") == 1
        async with reacting(site_with_fresh_metrics(site), url, source(seen)):
            await until(lambda: seen.events == ids)


async def test_effects_happen_once_though_the_message_comes_twice(fresh_nats: EmbeddedNats) -> None:
    url, toy = fresh_nats.url, Toy.new()
    async with storing(url) as site, looking_at(url) as client:
        await site.store.change(toy.target, command(), toy.create, is_new=True)
        handled: list[bool] = []

        async def confirm(event: Event) -> None:
            change = await site.store.change(toy.target, Cause.event(event), toy.confirm)
            handled.append(change.repeated)
            if len(handled) == 1:
                raise TimeoutError  # as if the service had died between the append and the acknowledgement

        async with reacting(site, url, Source("toys", {"QUOTE_RECEIVED": confirm})):
            await publish(client, event("QUOTE_RECEIVED"))
            await until(lambda: handled == [False, True])
        view = await site.store.view(toy.target)
        assert view.state is not None
        assert view.state.confirmations == 1


async def test_reactions_go_on_when_nats_comes_back_and_when_a_consumer_was_deleted(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.reactions._SURVEY_SECONDS", 0.2)
    seen, url = Seen(), fresh_nats.url
    async with storing(url) as site, looking_at(url) as client, reacting(site, url, source(seen)):
        first = await publish(client, event("ORDER_CREATED"))
        await until(lambda: seen.events == first)
        fresh_nats.kill()
        fresh_nats.start()
        await until(lambda: client.stats["reconnects"] == 1)
        second = await publish(client, event("ORDER_CREATED"))
        # A broker that was killed may have forgotten an acknowledgement: that message comes twice.
        await until(lambda: seen.events[-1:] == second, seconds=20)
        seen.events.clear()
        await jetstream.request(client, "CONSUMER.DELETE.MARKET.tests-toys-order")
        third = await publish(client, event("ORDER_CREATED"))
        # Made again, it begins at the beginning: effects are idempotent, and nothing may be left out.
        await until(lambda: seen.events == first + second + third, seconds=20)


async def test_two_replicas_share_the_work_and_keep_the_order(fresh_nats: EmbeddedNats) -> None:
    seen, url, order = Seen(), fresh_nats.url, fresh("order")
    async with storing(url) as one, storing(url) as other, looking_at(url) as client:
        async with reacting(one, url, source(seen)), reacting(other, url, source(seen)):
            ids = await publish(client, *(event("ORDER_CREATED", order=order) for _ in range(60)))
            await until(lambda: len(seen.events) >= 60)
        assert seen.events == ids


def test_a_source_of_an_unknown_type_is_refused() -> None:
    from contracts.registry import REGISTRY

    with pytest.raises(ValueError, match="NO_SUCH"):
        Source("s", {"NO_SUCH": Seen()}).filters(REGISTRY)
