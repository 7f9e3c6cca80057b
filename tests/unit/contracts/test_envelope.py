import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.envelope import LARGEST_EVENT_BYTES, NotAnEvent, Publication, read

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
DOCUMENTS = st.fixed_dictionaries(
    {"data": JSON_VALUES},
    optional={"type": JSON_VALUES | st.just("ORDER_CREATED"), "final": JSON_VALUES, "id": JSON_VALUES},
)
# JSON, nearly JSON and no JSON.
FRAGMENTS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b":", b",", b'"', b'"type"', b'"data"', b"\\u00e9", b"\\ud800", b"\xc3\xa9", b"\xff"]
) | st.sampled_from(
    [
        b"\n",
        b"\r",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"01",
        b"-",
        b"1.5",
        b"true",
        b"nul",
        b" ",
        b"\t",
        b"\x00",
        b"\xef\xbb\xbf",
    ]
)
PAYLOADS = (
    st.binary(max_size=40)
    | st.lists(FRAGMENTS, max_size=14).map(b"".join)
    | st.lists(FRAGMENTS, max_size=6).map(lambda parts: b'{"data":' + b"".join(parts) + b"}")
    | st.builds(
        lambda document, indent: json.dumps(document, indent=indent).encode(), JSON_VALUES, st.none() | st.just(1)
    )
    | st.builds(lambda document: json.dumps(document, ensure_ascii=False).encode(errors="replace"), DOCUMENTS)
)


def refuse_constant(name: str) -> Any:
    raise ValueError(name)


def strict_object(payload: bytes) -> dict[str, Any] | None:
    """The payload as a strict parser of another make has it, or None."""
    try:
        found = json.loads(payload.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@given(PAYLOADS)
def test_an_event_is_what_a_strict_parser_takes_for_an_object(payload: bytes) -> None:
    expected = strict_object(payload)
    try:
        _, _, line = read(payload)
    except NotAnEvent:
        assert expected is None
        return
    assert expected is not None
    assert json.loads(line) == expected


@given(PAYLOADS)
def test_what_is_handed_on_is_one_line_and_says_the_same(payload: bytes) -> None:
    try:
        _, _, line = read(payload)
    except NotAnEvent:
        return
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == json.loads(payload)


@given(DOCUMENTS)
def test_type_and_final_are_read_only_where_they_are_what_they_should_be(document: dict[str, Any]) -> None:
    found, final, _ = read(json.dumps(document).encode())
    kind = document.get("type")
    # A line break in a type would end the SSE line that bears it.
    bears = isinstance(kind, str) and "\n" not in kind and "\r" not in kind
    assert found == (kind if bears else None)
    assert final is (document.get("final") is True)


def test_a_pretty_printed_event_becomes_one_line() -> None:
    payload = json.dumps({"type": "PLAN_ERROR", "final": True, "data": {"note": "a\nb"}}, indent=2).encode()
    kind, final, line = read(payload.replace(b"\n", b"\r\n"))
    assert (kind, final) == ("PLAN_ERROR", True)
    assert b"\n" not in line
    assert json.loads(line)["data"]["note"] == "a\nb"


def test_bytes_that_are_not_utf8_are_refused_deep_inside_data() -> None:
    with pytest.raises(NotAnEvent, match="UTF-8"):
        read(b'{"type":"A","data":{"note":["\xff"]}}')


def test_an_event_nested_beyond_reason_is_refused() -> None:
    depth = 100_000
    with pytest.raises(NotAnEvent):
        read(b'{"data":' + b"[" * depth + b"]" * depth + b"}")


def test_the_largest_event_passes_and_one_byte_more_does_not() -> None:
    largest = b'{"data":"' + b"x" * (LARGEST_EVENT_BYTES - 11) + b'"}'
    assert len(largest) == LARGEST_EVENT_BYTES
    assert read(largest) == (None, False, largest)
    with pytest.raises(NotAnEvent, match="more than"):
        read(largest + b" ")


def test_a_publication_knows_its_events_id() -> None:
    assert Publication("plan.u.p", {"Nats-Msg-Id": "e1"}, b"{}", "PLANS").event_id == "e1"
