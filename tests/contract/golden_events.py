"""Where the golden events are."""

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.json"))


def document(path: Path) -> Any:
    """A golden event, decoded."""
    return json.loads(path.read_text())
