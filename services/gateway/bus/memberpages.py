"""Pages of members as they stand in the bucket PRESENCE: read by channel, and what cannot be read is nobody."""

import contextlib

from contracts.presence import MEMBERS_KEY, Member, NotPresence, decode_page
from contracts.topology import BUCKET_SUBJECTS, PRESENCE
from services.chassis.direct import direct_get
from services.gateway.bus.site import Site
from services.gateway.core.membership import PageKey

PREFIX = f"{BUCKET_SUBJECTS}.{PRESENCE}."
_REQUEST_SECONDS = 2.0
_PAGES_AT_ONCE = 64
_BYTES_AT_ONCE = 4 * 1024**2


async def read_pages(
    site: Site, channel: str, reader: str, sequences: dict[PageKey, int]
) -> dict[PageKey, list[Member]]:
    """Pages of a channel by all replicas but the `reader`, now; their `sequences` are put in.

    Raises:
        NotConnected, nats.errors.Error, DirectGetFailed, TimeoutError: the bucket does not answer.
    """
    kind, _, channel_id = channel.partition(":")
    found: dict[PageKey, list[Member]] = {}
    query: dict[str, object] = {
        "multi_last": [f"{PREFIX}{MEMBERS_KEY}.{kind}.{channel_id}.*.*"],
        "batch": _PAGES_AT_ONCE,
        "max_bytes": _BYTES_AT_ONCE,
    }
    more = True
    while more:
        batch = await direct_get(site.client, f"KV_{PRESENCE}", query, _REQUEST_SECONDS, api=site.hub_api)
        for stored in batch.messages:
            *_, replica, number = stored.subject.split(".")
            page = replica, int(number) if number.isdecimal() else -1
            if replica != reader and page[1] >= 0 and stored.payload:
                found[page] = members_of(stored.payload)
                sequences[page] = stored.sequence
        more = batch.more and bool(batch.messages)
        query["seq"] = batch.messages[-1].sequence + 1 if more else 0
    return found


def members_of(value: bytes) -> list[Member]:
    """A page's members; of one that cannot be read, nobody."""
    with contextlib.suppress(NotPresence):
        return decode_page(value) if value else []
    return []
