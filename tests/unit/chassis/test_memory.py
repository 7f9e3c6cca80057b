"""What the process holds and may hold, as the system tells."""

from pathlib import Path

import pytest

from services.chassis.memory import allowed_bytes, resident_bytes


@pytest.mark.parametrize(
    ("told", "expected"), [("max\n", None), ("1073741824\n", 1024**3), ("9223372036854771712\n", None)]
)
def test_a_control_groups_limit_is_read(tmp_path: Path, told: str, expected: int | None) -> None:
    (tmp_path / "memory.max").write_text(told)
    assert allowed_bytes((tmp_path / "nothing", tmp_path / "memory.max")) == expected


def test_nothing_tells_of_a_limit(tmp_path: Path) -> None:
    assert allowed_bytes((tmp_path / "nothing",)) is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone tells")
def test_the_process_holds_what_it_holds() -> None:
    before = resident_bytes()
    held = b"x" * 50_000_000
    assert resident_bytes() - before > len(held) * 0.8
