import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.subjects import MARKET, PLACEHOLDER, PLAN, InvalidSubject, Layout, is_id
from tests.harness.subjects import matches
from tests.unit.contracts.strategies import HOSTILE, IDS, TOKENS

LAYOUTS = st.sampled_from([MARKET, PLAN])
SOME_TOKENS = st.sets(st.sampled_from(MARKET.tokens))


@given(LAYOUTS, st.data())
def test_a_subject_parses_into_what_it_was_built_from(layout: Layout, data: st.DataObject) -> None:
    keys = data.draw(st.dictionaries(st.sampled_from(layout.tokens), IDS))
    values = layout.parse(layout.build(keys))
    assert values == tuple(keys.get(token, PLACEHOLDER) for token in layout.tokens)


@given(st.sampled_from(MARKET.tokens), HOSTILE)
def test_no_text_of_an_id_builds_anything_but_one_subject_of_its_family(token: str, text: str) -> None:
    try:
        subject = MARKET.build({token: text})
    except InvalidSubject:
        assert not is_id(text)
        return
    assert subject.count(".") == len(MARKET.tokens)
    assert not set(subject) & set("*> \t\r\n")
    assert matches(MARKET.wildcard, subject)
    assert dict(zip(MARKET.tokens, MARKET.parse(subject), strict=True))[token] == text


@given(st.lists(TOKENS, min_size=5, max_size=5), SOME_TOKENS, IDS)
def test_a_filter_takes_exactly_the_subjects_that_bear_its_values(
    values: list[str], chosen: set[str], other: str
) -> None:
    subject = ".".join(("market", *values))
    keys = {token: value for token, value in zip(MARKET.tokens, values, strict=True) if token in chosen}
    assert matches(MARKET.filter(keys), subject)
    for token in chosen:
        assert matches(MARKET.filter({**keys, token: other}), subject) is (keys[token] == other)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "market.>"),
        ({"intent": "i"}, "market.i.>"),
        ({"buyer": "b"}, "market.*.b.>"),
        ({"node": "n"}, "market.*.*.n.>"),
        ({"aggregate": "order", "aggregate_id": "o"}, "market.*.*.*.order.o"),
        ({"node": "-", "aggregate": "intent"}, "market.*.*.-.intent.>"),
    ],
)
def test_a_filter_is_as_short_as_nats_allows(keys: dict[str, str], expected: str) -> None:
    assert MARKET.filter(keys) == expected


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "market",
        "plan.a.b.c.d.e",
        "market.a.b.c.d",
        "market.a.b.c.d.e.f",
        "market.a.b.*.d.e",
        "market.a.b..d.e",
        "market.a.b.c.d.e ",
        "market.a.b.c.d.--",
        "market.a.b.c.d." + "x" * 65,
    ],
)
def test_what_does_not_fit_the_layout_is_refused(subject: str) -> None:
    with pytest.raises(InvalidSubject):
        MARKET.parse(subject)


def test_a_key_that_names_no_token_is_refused() -> None:
    with pytest.raises(InvalidSubject, match="no token 'seller'"):
        MARKET.build({"seller": "s"})


@pytest.mark.parametrize("text", ["-", "", "-a", "a.b", "a*", ">", "ä", "a\n", "x" * 65, "a b"])
def test_the_placeholder_and_whatever_nats_gives_a_meaning_are_no_ids(text: str) -> None:
    assert not is_id(text)


def test_an_id_has_up_to_64_characters_and_may_hold_dashes_after_the_first() -> None:
    assert all(map(is_id, ["a-", "_", "x" * 64]))
