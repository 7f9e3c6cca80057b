"""All regions of a hub in one table, seen from any of its sites.

Which regions there are is told by the hub's durable consumers; how each stands, by its own JetStream through the
links. A region that does not answer is shown with what the hub knows of it; one that is cut off shows itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.client import Client

from contracts.topology import StreamSpec, mirror_consumer
from services.chassis.jetstream import (
    NANOSECONDS,
    JetStreamError,
    StreamMissing,
    StreamState,
    api_of,
    request,
    state,
    state_of,
)

_PREFIX = mirror_consumer("")
_REGION_SECONDS = 2.0
_LATE_SECONDS = 3.0
_COLUMNS = ("REGION", "STREAM", "EPOCH", "FIRST", "LAST", "MESSAGES", "BEHIND", "UNSENT", "HEARD", "STANDS")


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One stream in one region."""

    region: str
    stream: str
    # None where the hub does not answer.
    hub: StreamState | None
    # What the hub has not sent there yet; None where it does not tell.
    unsent: int | None
    # None where the region does not answer, or has no such stream.
    mirror: StreamState | None = None
    # Since the mirror last heard of the hub; None where it never did.
    heard_seconds: float | None = None
    answers: bool = True

    @property
    def stands(self) -> bool:
        """Whether the region follows."""
        return self.verdict in ("level", "behind")

    @property
    def verdict(self) -> str:
        """How it stands, in a word or two."""
        if not self.answers:
            return "does not answer"
        if self.mirror is None:
            return "no mirror"
        if self.hub is None:
            return "no hub"
        if self.mirror.epoch != self.hub.epoch:
            return "another life"
        if self.mirror.last > self.hub.last:
            return "beyond the hub"
        if self.heard_seconds is None or self.heard_seconds > _LATE_SECONDS:
            return "hears nothing"
        return "behind" if self.mirror.last < self.hub.last else "level"


async def all_regions(client: Client, specs: Sequence[StreamSpec], hub_api: str) -> list[RegionRow]:
    """Every region that has, or had, a mirror of any of these streams.

    Raises:
        nats.errors.Error: the hub does not answer.
    """
    rows: list[RegionRow] = []
    for spec in specs:
        try:
            hub = await state(client, spec.name, api=hub_api)
        except StreamMissing:
            continue
        for one in await _consumers(client, spec.name, hub_api):
            region = one["name"].removeprefix(_PREFIX)
            rows.append(await _row(client, spec.name, hub, one["num_pending"], region))
    return sorted(rows, key=lambda row: row.region)


async def _consumers(client: Client, stream: str, hub_api: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    while True:
        page = await request(client, f"CONSUMER.LIST.{stream}", {"offset": len(found)}, api=hub_api)
        found += page.get("consumers") or []
        if len(found) >= page["total"] or not page.get("consumers"):
            return [one for one in found if one["name"].startswith(_PREFIX)]


async def one_region(client: Client, specs: Sequence[StreamSpec], region: str) -> list[RegionRow]:
    """The mirrors of the region that is connected to, where the hub is out of reach.

    Raises:
        nats.errors.Error: the region's own server does not answer.
    """
    return [await _row(client, spec.name, None, None, region) for spec in specs]


async def _row(client: Client, stream: str, hub: StreamState | None, unsent: int | None, region: str) -> RegionRow:
    try:
        info = await request(client, f"STREAM.INFO.{stream}", seconds=_REGION_SECONDS, api=api_of(region))
    except JetStreamError:
        return RegionRow(region, stream, hub, unsent)
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
        return RegionRow(region, stream, hub, unsent, answers=False)
    active = (info.get("mirror") or {}).get("active", -1)
    return RegionRow(region, stream, hub, unsent, state_of(info), active / NANOSECONDS if active >= 0 else None)


def region_table(rows: Iterable[RegionRow]) -> str:
    """The regions, one line for each of their streams."""
    cells = [_COLUMNS, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def _cells(row: RegionRow) -> tuple[str, ...]:
    mirror = row.mirror
    heard = "-" if row.heard_seconds is None else f"{row.heard_seconds:.1f} s"
    unsent = "-" if row.unsent is None else str(row.unsent)
    if mirror is None:
        return (row.region, row.stream, *["-"] * 5, unsent, heard, row.verdict)
    behind = "-" if row.hub is None else str(max(0, row.hub.last - mirror.last))
    numbers = (mirror.first, mirror.last, mirror.messages)
    return (row.region, row.stream, mirror.epoch, *map(str, numbers), behind, unsent, heard, row.verdict)
