from contracts.channels import CHANNELS
from contracts.registry import REGISTRY
from contracts.topology import GIB, STREAMS, streams


def test_the_market_never_forgets_and_plans_age_out() -> None:
    market, plans = STREAMS
    assert (market.name, market.discard, market.max_age_seconds) == ("MARKET", "new", None)
    assert (plans.name, plans.discard, plans.max_age_seconds) == ("PLANS", "old", 7 * 24 * 3600)


def test_every_stream_of_a_contract_and_of_a_channel_exists() -> None:
    names = {spec.name for spec in STREAMS}
    assert {contract.stream for contract in REGISTRY} | {kind.stream for kind in CHANNELS} <= names


def test_a_contracts_subjects_are_taken_by_its_stream() -> None:
    taken = {spec.name: spec.subjects for spec in STREAMS}
    assert all(contract.layout.wildcard in taken[contract.stream] for contract in REGISTRY)


def test_an_operator_sets_the_markets_size_and_the_copies_of_all() -> None:
    market, plans = streams(market_max_bytes=GIB, replicas=3)
    assert (market.max_bytes, plans.max_bytes) == (GIB, STREAMS[1].max_bytes)
    assert (market.replicas, plans.replicas) == (3, 3)


def test_without_settings_the_topology_is_as_declared() -> None:
    assert streams() == STREAMS


def test_replays_are_read_from_a_mirror_named_after_its_stream() -> None:
    assert [spec.replay_mirror for spec in STREAMS] == ["MARKET_REPLAY", "PLANS_REPLAY"]
