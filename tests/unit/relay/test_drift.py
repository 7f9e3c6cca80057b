"""What may be changed of a stream that differs from the topology, and what is kept."""

from typing import Any

import pytest

from contracts.topology import EPOCH, StreamSpec
from services.chassis.jetstream import StreamState, stream_config
from services.relay.drift import stream_drift

MIB = 1024**2
SPEC = StreamSpec("MARKET", ("market.>",), max_bytes=10 * MIB, max_age_seconds=100, discard="new", replicas=2)


def stream(**differing: Any) -> StreamState:
    """A stream as `SPEC` says, but for what differs."""
    config = {**stream_config(SPEC), "max_msgs": -1, "max_msgs_per_subject": -1, "metadata": {EPOCH: "0mi7c3k9a"}}
    return StreamState("MARKET", "0mi7c3k9a", 1, 0, 0, 1, {**config, **differing})


def test_a_stream_as_declared_has_no_drift() -> None:
    drift = stream_drift(SPEC, stream())
    assert not drift.changes
    assert drift.kept == drift.wrong == ()


@pytest.mark.parametrize(
    ("differing", "changes"),
    [
        ({"discard": "old"}, {"discard": "new"}),
        ({"duplicate_window": 10**9}, {"duplicate_window": 120 * 10**9}),
        ({"allow_direct": False}, {"allow_direct": True}),
        ({"allow_rollup_hdrs": True}, {"allow_rollup_hdrs": False}),
        ({"retention": "interest"}, {"retention": "limits"}),
        ({"max_bytes": 5 * MIB}, {"max_bytes": 10 * MIB}),
        ({"max_age": 50 * 10**9}, {"max_age": 100 * 10**9}),
        ({"max_msgs": 1000}, {"max_msgs": -1}),
        ({"max_msgs_per_subject": 1}, {"max_msgs_per_subject": -1}),
        ({"max_msg_size": 100}, {"max_msg_size": -1}),
        ({"num_replicas": 1}, {"num_replicas": 2}),
        ({"subjects": []}, {"subjects": ["market.>"]}),
        ({"metadata": {"made": "by hand"}}, {"metadata": {"made": "by hand", EPOCH: "0mi7c3k9a"}}),
    ],
)
def test_harmless_drift_is_changed_to_what_the_topology_says(
    differing: dict[str, Any], changes: dict[str, Any]
) -> None:
    drift = stream_drift(SPEC, stream(**differing))
    assert drift.changes == changes
    assert drift.kept == drift.wrong == ()


@pytest.mark.parametrize(
    ("differing", "told", "shrunk"),
    [
        ({"max_bytes": 20 * MIB}, "max_bytes stays 20 MiB, more than the 10 MiB", {"max_bytes": 10 * MIB}),
        ({"max_bytes": -1}, "max_bytes stays unlimited, more than the 10 MiB", {"max_bytes": 10 * MIB}),
        ({"max_age": 200 * 10**9}, "max_age stays 200 s, more than the 100 s", {"max_age": 100 * 10**9}),
        ({"max_age": 0}, "max_age stays unlimited", {"max_age": 100 * 10**9}),
        ({"num_replicas": 3}, "num_replicas stays 3, more than the 2", {"num_replicas": 2}),
    ],
)
def test_a_stream_is_never_made_to_keep_less_unless_that_was_allowed(
    differing: dict[str, Any], told: str, shrunk: dict[str, Any]
) -> None:
    refused = stream_drift(SPEC, stream(**differing))
    assert not refused.changes
    assert len(refused.kept) == 1
    assert told in refused.kept[0]
    allowed = stream_drift(SPEC, stream(**differing), allow_shrink=True)
    assert allowed.changes == shrunk
    assert allowed.kept == ()


def test_a_shrink_that_is_refused_does_not_hold_up_the_rest() -> None:
    drift = stream_drift(SPEC, stream(max_bytes=20 * MIB, discard="old"))
    assert drift.changes == {"discard": "new"}
    assert len(drift.kept) == 1


@pytest.mark.parametrize(
    ("differing", "told"),
    [
        ({"storage": "memory"}, "kept in memory"),
        ({"subjects": ["market.>", "other.>"]}, "also stores other.>"),
        ({"mirror": {"name": "X"}}, "has a mirror"),
        ({"sources": [{"name": "X"}]}, "has a sources"),
        ({"sealed": True}, "sealed"),
    ],
)
def test_what_an_update_cannot_mend_is_told_and_left_alone(differing: dict[str, Any], told: str) -> None:
    drift = stream_drift(SPEC, stream(**differing))
    assert not drift.changes
    assert len(drift.wrong) == 1
    assert told in drift.wrong[0]


def test_a_missing_subject_is_added_and_a_strange_one_is_not_taken_away() -> None:
    drift = stream_drift(SPEC, stream(subjects=["other.>"]))
    assert drift.changes == {"subjects": ["other.>", "market.>"]}
    assert "other.>" in drift.wrong[0]
