"""The table that `--status` prints."""

from services.chassis.jetstream import StreamState
from services.relay.report import MirrorReport, StreamReport, table, told

STATE = StreamState("MARKET", "0mi7c3k9a", 3, 1042, 1040, 3, {})


def test_the_table_has_one_line_a_stream_and_columns_that_line_up() -> None:
    reports = [
        StreamReport("MARKET", STATE, 123456, MirrorReport("MARKET_REPLAY", 0, 0.0)),
        StreamReport("PLANS", STATE, 5, MirrorReport("PLANS_REPLAY", 12, 1.25)),
        StreamReport("LONE", STATE),
        StreamReport("CONTROL"),
    ]
    heading, *lines = table(reports).splitlines()
    assert len(lines) == len(reports)
    assert lines[0].split() == ["MARKET", "0mi7c3k9a", "3", "1042", "1040", "123456", "3", "none"]
    assert lines[1].endswith("12 messages, 1.2 s")
    assert lines[2].endswith("no mirror")
    assert lines[3].split()[:2] == ["CONTROL", "missing"]
    assert {line.index(found) for line, found in zip(lines[:3], ["1042"] * 3, strict=True)} == {heading.index("LAST")}


def test_what_was_refused_is_below_the_table_and_names_its_stream() -> None:
    reports = [StreamReport("MARKET", STATE, wrong=["it is sealed"]), StreamReport("PLANS", STATE, kept=["more"])]
    assert table(reports).splitlines()[-2:] == ["MARKET: it is sealed", "PLANS: more (served as it is)"]
    assert told(reports, kept=False) == ["MARKET: it is sealed"]
    assert told(reports, kept=True) == ["PLANS: more"]
