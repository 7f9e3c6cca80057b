import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from contracts.channels import CHANNELS
from contracts.errors import ErrorCode, Problem
from contracts.principal import ADMIN, BUYER, NODE, SERVICE
from contracts.subjects import MARKET, PLAN, Layout
from services.gateway.core.access import Access, Grant
from tests.harness.archive import KEYS
from tests.harness.core import principal
from tests.harness.subjects import matches
from tests.unit.contracts.strategies import FEW_IDS, HOSTILE, TOKENS

ACCESS = Access(KEYS)
ALL, OWN, NARROWED, NO = "all", "own", "narrowed", "no"
KINDS = ["buyer", "node", "intent", "negotiation", "order", "plan"]
# What each role sees of each kind of channel (PROTOCOL §2), written down apart from the declarations.
TABLE = {
    ADMIN: dict.fromkeys(KINDS, ALL),
    BUYER: dict.fromkeys(KINDS, NARROWED) | {"buyer": OWN, "node": NO},
    NODE: dict.fromkeys(KINDS, NARROWED) | {"node": OWN, "buyer": NO},
    SERVICE: dict.fromkeys(KINDS, NO),
    "stranger": dict.fromkeys(KINDS, NO),
}
SINGLE = {
    "market:intents": {ADMIN, NODE},
    "admin:market": {ADMIN},
    "admin:plans": {ADMIN},
}


def code_of(sub: str, role: str, channel: str, channels: frozenset[str] | None = None) -> ErrorCode | None:
    found = ACCESS.grant(principal(sub, role, channels=channels), channel)
    return found.code if isinstance(found, Problem) else None


@pytest.mark.parametrize("role", TABLE)
@pytest.mark.parametrize("kind", KINDS)
def test_each_role_sees_of_each_kind_what_the_protocol_says(role: str, kind: str) -> None:
    sees = TABLE[role][kind]
    own, other = (code_of("me", role, f"{kind}:{one}") for one in ("me", "you"))
    assert (own is None) == (sees != NO)
    assert (other is None) == (sees in (ALL, NARROWED))
    if sees == NARROWED:
        grant = ACCESS.grant(principal("me", role), f"{kind}:you")
        assert isinstance(grant, Grant)
        assert grant.narrowing == {"owner" if kind == "plan" else role: "me"}


@pytest.mark.parametrize("role", TABLE)
@pytest.mark.parametrize("channel", SINGLE)
def test_the_channels_there_is_one_of_are_for_some_roles(role: str, channel: str) -> None:
    assert code_of("me", role, channel) is (None if role in SINGLE[channel] else ErrorCode.FORBIDDEN)


def test_every_declared_kind_is_in_one_of_these_tables() -> None:
    assert {kind.name for kind in CHANNELS if kind.only_id is None} == set(KINDS)
    assert {f"{kind.name}:{kind.only_id}" for kind in CHANNELS if kind.only_id} == set(SINGLE)


@pytest.mark.parametrize("role", [ADMIN, SERVICE])
@pytest.mark.parametrize("channel", ["", ":", "order", "order:", ":o1", "order:-", "order:*", "order:a.b", "order:a:b"])
def test_grammar_is_judged_before_kind_and_role(role: str, channel: str) -> None:
    assert code_of("me", role, channel, frozenset()) is ErrorCode.INVALID_CHANNEL


@pytest.mark.parametrize("role", [ADMIN, SERVICE])
@pytest.mark.parametrize("channel", ["orders:o1", "market:else", "admin:else", "ORDER:o1"])
def test_kind_is_judged_before_role(role: str, channel: str) -> None:
    assert code_of("me", role, channel, frozenset()) is ErrorCode.UNKNOWN_CHANNEL


@given(HOSTILE)
def test_no_text_is_anything_but_a_grant_or_a_problem(text: str) -> None:
    for channel in (text, f"order:{text}", f"{text}:o1"):
        found = ACCESS.grant(principal("me", BUYER), channel)
        assert isinstance(found, (Grant, Problem))


@pytest.mark.parametrize(
    ("claim", "covered"),
    [
        ({"order:o1"}, True),
        ({"order:*"}, True),
        ({"order:o2"}, False),
        ({"*"}, False),
        ({"plan:*", "buyer:me"}, False),
        (set(), False),
    ],
)
def test_the_tokens_channels_narrow_and_never_widen(claim: set[str], covered: bool) -> None:
    assert (code_of("me", ADMIN, "order:o1", frozenset(claim)) is None) == covered
    assert code_of("me", BUYER, "admin:market", frozenset({*claim, "admin:market", "admin:*"})) is ErrorCode.FORBIDDEN


def subject_of(layout: Layout, values: list[str]) -> str:
    return ".".join((layout.prefix, *values))


AGGREGATES = st.sampled_from(["intent", "negotiation", "order", "payment", "quote"])
MARKET_SUBJECTS = st.tuples(TOKENS, TOKENS, TOKENS, AGGREGATES, TOKENS).map(lambda one: subject_of(MARKET, list(one)))
PLAN_SUBJECTS = st.tuples(TOKENS, TOKENS).map(lambda one: subject_of(PLAN, list(one)))
CHANNEL_NAMES = st.one_of(
    st.builds(lambda kind, name: f"{kind}:{name}", st.sampled_from(KINDS), FEW_IDS), st.sampled_from(sorted(SINGLE))
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(FEW_IDS, st.sampled_from(sorted(TABLE)), CHANNEL_NAMES, MARKET_SUBJECTS | PLAN_SUBJECTS)
def test_live_by_key_and_replay_by_filter_show_exactly_the_same_events(
    sub: str, role: str, channel: str, subject: str
) -> None:
    grant = ACCESS.grant(principal(sub, role), channel)
    assume(isinstance(grant, Grant))
    assert isinstance(grant, Grant)
    stream = "PLANS" if subject.startswith("plan.") else "MARKET"
    assume(grant.stream == stream)
    by_key = grant.key in KEYS.keys(stream, subject)
    assert by_key == any(matches(one, subject) for one in grant.filters)


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(FEW_IDS, st.sampled_from([BUYER, NODE]), CHANNEL_NAMES, MARKET_SUBJECTS | PLAN_SUBJECTS)
def test_a_buyer_or_node_never_gets_an_event_without_its_id_but_on_the_board(
    sub: str, role: str, channel: str, subject: str
) -> None:
    grant = ACCESS.grant(principal(sub, role), channel)
    assume(isinstance(grant, Grant))
    assert isinstance(grant, Grant)
    layout = PLAN if subject.startswith("plan.") else MARKET
    visible = grant.key in KEYS.keys(grant.stream, subject) if grant.kind.layout is layout else False
    values = dict(zip(layout.tokens, layout.parse(subject), strict=True))
    own = values.get("owner" if layout is PLAN else role)
    assert not visible or own == sub or (channel == "market:intents" and role == NODE)
