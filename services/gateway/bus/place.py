"""A place: a stream, or a mirror of it, in one JetStream; and where the reads of one stream go (PROTOCOL §5).

A region's mirror bears the name of the hub's stream, so a name alone says nothing: the API's prefix does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis import jetstream
from services.chassis.direct import Batch
from services.gateway.bus.site import Site
from services.gateway.core.log import Life

READ_SECONDS = 5.0


class Behind(Exception):
    """What was asked may exist, but the place that was read does not have it yet."""


class Elsewhere(Exception):
    """This mirror cannot settle it; the hub can."""


@dataclass(frozen=True, slots=True)
class Place:
    """One stream or mirror."""

    site: Site
    name: str
    # The API's prefix; the site's own JetStream, or the hub's.
    api: str
    # Whether it is to be a region's mirror.
    is_mirror: bool = False

    async def state(self) -> jetstream.StreamState:
        """Its life and bounds.

        Raises:
            Behind: it is to be a mirror, and is none of the whole stream.
        """
        found = await jetstream.state(self.site.client, self.name, api=self.api)
        if self.is_mirror and not is_whole(found):
            raise Behind(f"{self.name} is no mirror of the whole stream")
        return found

    async def same(self, life: Life) -> jetstream.StreamState:
        """Its bounds.

        Raises:
            Behind: it is of another life, or none of the whole stream.
        """
        found = await self.state()
        if found.epoch != life.epoch:
            raise Behind(f"{self.name} is of another life")
        return found

    async def get(self, query: Mapping[str, Any]) -> Batch:
        """One batched direct get."""
        return await self.site.direct_get(self.name, query, READ_SECONDS, api=self.api)

    async def ask(self, subject: str, query: Mapping[str, Any]) -> dict[str, Any]:
        """One call of the API, which the leader answers."""
        return await jetstream.request(self.site.client, f"{subject}.{self.name}", query, api=self.api)


def is_whole(mirror: jetstream.StreamState) -> bool:
    """Whether a region's stream is a mirror that passes nothing over; one with a filter would hide events for good."""
    source = mirror.config.get("mirror") or {}
    return source.get("name") == mirror.name and not (source.get("filter_subject") or source.get("subject_transforms"))


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where a stream is read: unfiltered and by exact subject, and by wild-card."""

    stream: Place
    # Never the stream that takes the writes, which a wild-card read would stall (DESIGN decision 4).
    mirror: Place


def shelves(site: Site, stream: str, replay_mirror: str) -> tuple[Shelf, Shelf | None]:
    """This site's shelf and, in a region, the hub's, which has what the region's mirror trimmed or lacks."""
    here = Place(site, stream, site.api, site.is_region)
    hub = Shelf(Place(site, stream, site.hub_api), Place(site, replay_mirror, site.hub_api))
    return (Shelf(here, here), hub) if site.is_region else (hub, None)
