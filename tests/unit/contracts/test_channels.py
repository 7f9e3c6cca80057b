import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.channels import (
    CHANNELS,
    ID,
    Access,
    ChannelKind,
    Channels,
    InvalidChannel,
    Narrowed,
    Sees,
    narrowed_key,
    split,
)
from contracts.principal import BUYER, NODE
from contracts.subjects import MARKET, PLAN, InvalidSubject
from tests.harness.subjects import matches
from tests.unit.contracts.strategies import HOSTILE, IDS, TOKENS

CHANNELS_OF_ALL = Channels(CHANNELS)
KINDS = st.sampled_from(CHANNELS)
AGGREGATES = st.sampled_from(["intent", "quote", "negotiation", "order", "payment"])
MARKET_SUBJECTS = st.builds(
    lambda intent, buyer, node, aggregate, key: f"market.{intent}.{buyer}.{node}.{aggregate}.{key}",
    TOKENS,
    TOKENS,
    TOKENS,
    AGGREGATES,
    TOKENS,
)
PLAN_SUBJECTS = st.builds(lambda owner, plan: f"plan.{owner}.{plan}", TOKENS, TOKENS)


def name_of(kind: ChannelKind, channel_id: str) -> str:
    return f"{kind.name}:{kind.only_id or channel_id}"


@given(KINDS, IDS, MARKET_SUBJECTS, PLAN_SUBJECTS)
def test_an_event_has_a_channels_key_exactly_if_the_channels_filter_takes_it(
    kind: ChannelKind, channel_id: str, market: str, plan: str
) -> None:
    subject = market if kind.stream == "MARKET" else plan
    taken = any(matches(each, subject) for each in kind.filters(kind.only_id or channel_id))
    assert (name_of(kind, channel_id) in CHANNELS_OF_ALL.keys(kind.stream, subject)) is taken


@given(KINDS, IDS, IDS, MARKET_SUBJECTS, PLAN_SUBJECTS)
def test_an_event_has_a_narrowed_key_exactly_if_the_narrowed_filter_takes_it(
    kind: ChannelKind, channel_id: str, own: str, market: str, plan: str
) -> None:
    subject = market if kind.stream == "MARKET" else plan
    keys = CHANNELS_OF_ALL.keys(kind.stream, subject)
    for token in kind.narrowing_tokens:
        taken = any(matches(each, subject) for each in kind.filters(channel_id, {token: own}))
        assert (narrowed_key(name_of(kind, channel_id), token, own) in keys) is taken


@given(KINDS, IDS, IDS, MARKET_SUBJECTS, PLAN_SUBJECTS)
def test_a_narrowed_channel_holds_nothing_that_does_not_bear_the_own_id(
    kind: ChannelKind, channel_id: str, own: str, market: str, plan: str
) -> None:
    subject = market if kind.stream == "MARKET" else plan
    for token in kind.narrowing_tokens:
        if any(matches(each, subject) for each in kind.filters(channel_id, {token: own})):
            assert dict(zip(kind.layout.tokens, kind.layout.parse(subject), strict=True))[token] == own


@given(MARKET_SUBJECTS)
def test_keys_come_once_each_and_plain_ones_first(subject: str) -> None:
    keys = CHANNELS_OF_ALL.keys("MARKET", subject)
    assert len(set(keys)) == len(keys)
    assert list(keys) == sorted(keys, key=lambda key: "|" in key)


def test_an_order_event_is_in_these_channels() -> None:
    assert set(CHANNELS_OF_ALL.keys("MARKET", "market.i.b.n.order.o")) == {
        "buyer:b",
        "node:n",
        "intent:i",
        "intent:i|buyer=b",
        "intent:i|node=n",
        "order:o",
        "order:o|buyer=b",
        "order:o|node=n",
        "admin:market",
    }


def test_an_intent_is_on_the_board_and_has_no_node() -> None:
    assert set(CHANNELS_OF_ALL.keys("MARKET", "market.i.b.-.intent.i")) == {
        "buyer:b",
        "intent:i",
        "intent:i|buyer=b",
        "market:intents",
        "admin:market",
    }


def test_a_plans_event_is_its_owners() -> None:
    assert set(CHANNELS_OF_ALL.keys("PLANS", "plan.u.p")) == {"plan:p", "plan:p|owner=u", "admin:plans"}


def test_a_payment_is_in_its_orders_channel() -> None:
    assert "order:o" in CHANNELS_OF_ALL.keys("MARKET", "market.i.b.n.payment.o")


def test_a_stream_without_channels_gives_no_keys() -> None:
    assert CHANNELS_OF_ALL.keys("CONTROL", "control.revocation") == ()


def test_a_subject_of_another_layout_is_told_and_not_skipped() -> None:
    with pytest.raises(InvalidSubject):
        CHANNELS_OF_ALL.keys("MARKET", "market.a.b")


@pytest.mark.parametrize(
    ("name", "narrowing", "expected"),
    [
        ("buyer:b", None, ("market.*.b.>",)),
        ("node:n", None, ("market.*.*.n.>",)),
        ("intent:i", None, ("market.i.>",)),
        ("intent:i", {"buyer": "b"}, ("market.i.b.>",)),
        ("negotiation:x", None, ("market.*.*.*.negotiation.x",)),
        ("order:o", None, ("market.*.*.*.order.o", "market.*.*.*.payment.o")),
        ("order:o", {"node": "n"}, ("market.*.*.n.order.o", "market.*.*.n.payment.o")),
        ("market:intents", None, ("market.*.*.-.intent.>",)),
        ("market:intents", {"node": "n"}, ()),
        ("admin:market", None, ("market.>",)),
        ("admin:plans", None, ("plan.>",)),
        ("plan:p", {"owner": "u"}, ("plan.u.p",)),
    ],
)
def test_the_filters_are_those_of_the_protocol(
    name: str, narrowing: dict[str, str] | None, expected: tuple[str, ...]
) -> None:
    kind, channel_id = split(name)
    found = CHANNELS_OF_ALL.find(kind, channel_id)
    assert found is not None
    assert found.filters(channel_id, narrowing) == expected


@given(HOSTILE, HOSTILE)
def test_a_channel_name_is_two_ids_and_nothing_else(kind: str, channel_id: str) -> None:
    try:
        found = split(f"{kind}:{channel_id}")
    except InvalidChannel:
        return
    assert found == (kind, channel_id)
    assert not set(kind + channel_id) & set(".*>: |=\r\n")


@pytest.mark.parametrize("name", ["", "order", "order:", ":o1", "order:-", "order:a.b", "order:*", "order:a:b", "o*:a"])
def test_what_is_not_kind_and_id_is_no_channel(name: str) -> None:
    with pytest.raises(InvalidChannel):
        split(name)


def test_a_kind_of_one_channel_has_no_other() -> None:
    assert CHANNELS_OF_ALL.find("admin", "market") is not CHANNELS_OF_ALL.find("admin", "plans")
    assert CHANNELS_OF_ALL.find("admin", "everything") is None
    assert CHANNELS_OF_ALL.find("topic", "a") is None


def test_every_declared_kind_is_told() -> None:
    assert list(CHANNELS_OF_ALL.kinds()) == list(CHANNELS)


def test_a_new_kind_needs_its_declaration_only() -> None:
    access: dict[str, Access] = {BUYER: Narrowed("owner"), NODE: Sees.ALL}
    kind = ChannelKind("task", "PLANS", PLAN, ({"plan": ID},), access)
    channels = Channels([kind])
    assert channels.keys("PLANS", "plan.u.p") == ("task:p", "task:p|owner=u")
    assert channels.find("task", "p") is kind
    assert channels.keys("MARKET", f"market{'.a' * len(MARKET.tokens)}") == ()
