"""What a region of the one-machine system may be called, and what its processes are told."""

import pytest

from services.local.regions import LocalRegion, WrongRegions, region_names


def test_names_are_split_at_commas() -> None:
    assert region_names("eu, us-east-1,") == ("eu", "us-east-1")
    assert region_names("") == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hub", "is no name"),
        ("EU", "is no name"),
        ("eu,eu", "twice"),
        ("a.b", "is no name"),
        ("1,2,3,4,5,6,7,8,9", "8"),
    ],
)
def test_what_cannot_be_a_region_is_refused(text: str, why: str) -> None:
    with pytest.raises(WrongRegions, match=why):
        region_names(text)


def test_a_regions_services_know_their_region_and_the_hubs_domain_and_declare_nothing() -> None:
    region = LocalRegion.bind("eu")
    try:
        told = region.environment()
        assert (told["A2A_REGION"], told["A2A_HUB_DOMAIN"], told["A2A_DECLARE"]) == ("eu", "hub", "false")
        assert told["A2A_NATS_URL"] == region.addresses()["nats"]
        assert set(region.addresses()) == {"gateway", "relay", "nats"}
    finally:
        region.close()
