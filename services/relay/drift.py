"""Drift: how a stream as it stands differs from the topology, and what may be done about it. Pure.

Decides what an update may change. What a stream keeps only ever grows; a smaller size, age or number of
copies than it has now is left as it is and told, unless shrinking was allowed by name. What no update can
put right (storage, subjects that are stored but not ours) is told.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.topology import EPOCH, StreamSpec
from services.chassis.jetstream import NANOSECONDS, StreamState, stream_config

# Set to the topology's value whichever way they drifted: none of them decides how much is kept.
_EQUAL = (
    "discard", "duplicate_window", "allow_direct", "allow_atomic", "allow_rollup_hdrs", "retention", "allow_msg_ttl",
    "subject_delete_marker_ttl",
)  # fmt: skip
_LIMITS = ("max_bytes", "max_age", "max_msgs", "max_msgs_per_subject", "max_msg_size")
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Drift:
    """What to change, what is kept though the topology says less, and what an update cannot mend."""

    changes: Mapping[str, Any]
    kept: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def stream_drift(spec: StreamSpec, stream: StreamState, *, allow_shrink: bool = False) -> Drift:
    """The drift of `stream` from `spec`."""
    now = stream.config
    wanted = stream_config(spec)
    # What JetStream leaves out of an answer is off.
    changes = {name: wanted[name] for name in _EQUAL if now.get(name, False) != wanted[name]}
    kept = []
    for name in (*_LIMITS, "num_replicas"):
        has, should = _size(name, now.get(name)), _size(name, wanted.get(name))
        if has == should:
            continue
        if should > has or allow_shrink:
            changes[name] = wanted.get(name, -1)
        else:
            kept.append(f"{name} stays {_told(name, has)}, more than the {_told(name, should)} of the topology")
    missing = set(spec.subjects) - set(now.get("subjects", ()))
    if missing:
        changes["subjects"] = [*now.get("subjects", ()), *sorted(missing)]
    if EPOCH not in now.get("metadata", {}):
        changes["metadata"] = {**now.get("metadata", {}), EPOCH: stream.epoch}
    return Drift(changes, tuple(kept), tuple(_beyond_an_update(spec, now)))


def _beyond_an_update(spec: StreamSpec, now: Mapping[str, Any]) -> list[str]:
    found = []
    if now["storage"] != "file":
        found.append(f"it is kept in {now['storage']}, not in files")
    strange = sorted(set(now.get("subjects", ())) - set(spec.subjects))
    if strange:
        found.append(f"it also stores {', '.join(strange)}, which is not the topology's")
    found += [f"it has a {name}" for name in ("mirror", "sources") if now.get(name)]
    if now.get("sealed"):
        found.append("it is sealed")
    return found


def _size(name: str, value: int | None) -> float:
    """A limit as a number that compares: none is infinite (JetStream tells 0 or -1)."""
    if name == "num_replicas":
        return value or 1
    return value if value is not None and value > 0 else math.inf


def _told(name: str, size: float) -> str:
    if math.isinf(size):
        return "unlimited"
    if name == "max_bytes":
        return f"{size / _MIB:g} MiB"
    return f"{size / NANOSECONDS:g} s" if name == "max_age" else f"{size:g}"
