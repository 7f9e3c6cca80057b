"""All regions in one table: what each verdict is made of, and what is shown of a region that tells nothing."""

from dataclasses import replace

import pytest

from services.chassis.jetstream import StreamState
from services.relay.everywhere import RegionRow, region_table

HUB = StreamState("MARKET", "0mi7c3k91", 1, 10, 10, 3, {})
LEVEL = RegionRow("eu", "MARKET", HUB, 0, HUB, heard_seconds=0.4)


@pytest.mark.parametrize(
    ("row", "verdict", "stands"),
    [
        (LEVEL, "level", True),
        (replace(LEVEL, mirror=replace(HUB, last=7), unsent=3), "behind", True),
        (replace(LEVEL, heard_seconds=3.1), "hears nothing", False),
        (replace(LEVEL, heard_seconds=None), "hears nothing", False),
        (replace(LEVEL, mirror=replace(HUB, epoch="0mi7c3k90")), "another life", False),
        (replace(LEVEL, mirror=replace(HUB, last=12)), "beyond the hub", False),
        (replace(LEVEL, mirror=None), "no mirror", False),
        (replace(LEVEL, mirror=None, answers=False), "does not answer", False),
        (replace(LEVEL, hub=None, unsent=None), "no hub", False),
    ],
)
def test_a_region_stands_where_it_follows(row: RegionRow, verdict: str, stands: bool) -> None:
    assert (row.verdict, row.stands) == (verdict, stands)


def test_what_is_not_known_is_a_dash() -> None:
    away = replace(LEVEL, mirror=None, heard_seconds=None, unsent=4, answers=False)
    cut_off = replace(LEVEL, hub=None, unsent=None)
    lines = [line.split() for line in region_table([away, cut_off]).splitlines()]
    assert lines[1] == ["eu", "MARKET", *["-"] * 5, "4", "-", "does", "not", "answer"]
    assert lines[2] == ["eu", "MARKET", "0mi7c3k91", "1", "10", "10", "-", "-", "0.4", "s", "no", "hub"]
