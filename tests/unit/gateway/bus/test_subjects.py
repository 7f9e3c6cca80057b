"""Filters of one aggregate or deal: which they are, and that looking for several at once misses none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.channels import CHANNELS, Channels
from services.chassis.direct import Batch, Stored
from services.chassis.jetstream import StreamState
from services.gateway.bus.place import Behind, Place
from services.gateway.bus.site import Site
from services.gateway.bus.subjects import Subjects, _unions, is_exact, selects_few, takes
from services.gateway.core.log import Life
from tests.harness.subjects import matches

KINDS = Channels(CHANNELS)
TOKENS = st.sampled_from(["a", "b", "order", "payment", "*"])
ROWS = st.lists(st.tuples(*[TOKENS] * 5), min_size=1, max_size=6)
SUBJECTS = st.tuples(*[st.sampled_from(["a", "b", "order", "payment"])] * 5)


def filters_of(channel: str, **narrowing: str) -> tuple[str, ...]:
    kind, _, name = channel.partition(":")
    found = KINDS.find(kind, name)
    assert found is not None
    return found.filters(name, narrowing or None)


def test_the_channels_of_an_aggregate_or_a_deal_are_told_from_those_of_a_person_or_the_board() -> None:
    for channel in ("order:o", "negotiation:n", "intent:i", "plan:p"):
        assert selects_few(filters_of(channel)), channel
    assert selects_few(filters_of("order:o", buyer="b"))
    assert selects_few(filters_of("intent:i", node="n"))
    for channel in ("buyer:b", "node:n", "market:intents", "admin:market"):
        assert not selects_few(filters_of(channel)), channel
    assert not selects_few((*filters_of("order:o"), *filters_of("buyer:b")))


def test_an_orders_events_and_its_payments_are_looked_for_at_once() -> None:
    assert _unions(filters_of("order:o")) == ["market.*.*.*.*.o"]
    assert _unions(filters_of("order:o", buyer="b")) == ["market.*.b.*.*.o"]
    assert _unions((*filters_of("order:o"), *filters_of("order:p"))) == ["market.*.*.*.*.o", "market.*.*.*.*.p"]


@given(ROWS, SUBJECTS)
def test_what_one_of_the_filters_selects_is_never_missed(rows: list[tuple[str, ...]], subject: tuple[str, ...]) -> None:
    filters, name = tuple(".".join(("market", *row)) for row in rows), ".".join(("market", *subject))
    if any(takes(one, name) for one in filters):
        assert any(takes(one, name) for one in _unions(filters))


@given(SUBJECTS, st.integers(1, 5), ROWS)
def test_a_filter_takes_what_nats_would(subject: tuple[str, ...], length: int, rows: list[tuple[str, ...]]) -> None:
    name = ".".join(("market", *subject))
    for row in rows:
        for one in (".".join(("market", *row)), ".".join(("market", *row[: length - 1], ">"))):
            assert takes(one, name) == matches(one, name)
            assert not is_exact(one) or takes(one, one)


NOTHING = Batch((), False)


@dataclass(frozen=True, slots=True)
class Copies(Place):
    """A mirror of several copies: who tells its bounds has everything, who answers may lag."""

    answer: Batch = NOTHING

    async def same(self, life: Life) -> StreamState:
        return StreamState("MARKET_REPLAY", life.epoch, 1, 100, 100, 3, {})

    async def get(self, query: Mapping[str, Any]) -> Batch:
        return self.answer


def answered_by(*found: str, upto: int | None) -> Copies:
    stored = tuple(Stored(number, subject, b"", {}) for number, subject in enumerate(found, 1))
    return Copies(Site(), "MARKET_REPLAY", "$JS.API", answer=Batch(stored, False, upto))


async def test_a_set_of_subjects_is_true_of_no_more_than_the_copy_that_answered_had() -> None:
    life, order = Life("MARKET", "0mi7c3k9a"), filters_of("order:o")
    lagging = Subjects(answered_by("market.i.b.n.order.o", upto=60))
    assert (await lagging.find(life, order, 50)).subjects == ("market.i.b.n.order.o",)
    assert lagging.known(life, order, 60) is not None
    assert lagging.known(life, order, 61) is None
    with pytest.raises(Behind):
        await lagging.find(life, order, 61)
    silent = Subjects(answered_by(upto=None))
    assert (await silent.find(life, order, 50)).subjects == ()
    assert silent.known(life, order, 51) is None
