"""The process's memory: what it holds, and what the system lets it hold. Linux alone tells."""

import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
# Of control groups, version 2 and 1.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# Version 1 tells "none" by a number near 2^63.
_NO_LIMIT = 2**60


def resident_bytes() -> int:
    """What of the process is in memory now; 0 where that is not told."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def allowed_bytes(told_by: tuple[Path, ...] = _LIMITS) -> int | None:
    """What the process's control group may hold; None where it is not bound, or nothing tells."""
    for path in told_by:
        try:
            limit = int(path.read_bytes())
        except (OSError, ValueError):
            continue
        return limit if limit < _NO_LIMIT else None
    return None
