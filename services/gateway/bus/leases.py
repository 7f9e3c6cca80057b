"""The bucket PRESENCE as one replica uses it: its lease, its pages, and those of the others (DESIGN decision 8).

One consumer of headers alone tells which key has changed, without a gap: whatever the fleet writes costs each replica
a line, and a page is read only where somebody here watches its channel (docs/adr/0031). A lease is written before any
page, and again each few seconds for as long as there are members here. The bucket lives at the hub; nothing of it is
the only copy of a fact, so a replica that lost it writes its pages again.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import nats.errors
from structlog.stdlib import BoundLogger

from contracts.presence import LEASE_KEY, MEMBERS_KEY, lease_key, page_key
from contracts.topology import PRESENCE
from services.chassis import jetstream
from services.chassis.direct import DirectGetFailed
from services.chassis.tasks import is_wanted
from services.gateway.bus.keywatch import KeyWatch, WatchBroken
from services.gateway.bus.memberpages import PREFIX, members_of, read_pages
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.membership import PageKey
from services.gateway.core.presence import Presence

_FAILURES = (
    nats.errors.Error, NotConnected, jetstream.JetStreamError, DirectGetFailed, TimeoutError, OSError, WatchBroken,
)  # fmt: skip
_REQUEST_SECONDS = 2.0
_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_WRITES_AT_ONCE = 32
_READS_AT_ONCE = 16
# Changes of late, of whatever channel: a read of one that is watched from now on may be answered by a copy of the
# bucket that is behind.
_MOST_RECENT = 4096
# A page that was removed leaves a mark for this long.
_MARK_SECONDS = 60


class Leases:
    """Keeps a `Presence` and the bucket equal; implements `core.presence.Store`."""

    def __init__(
        self,
        site: Site,
        presence: Presence,
        log: BoundLogger,
        *,
        lease_seconds: int,
        renew_seconds: float,
        declare: Callable[[], Awaitable[object]] | None,
    ) -> None:
        """`declare` makes the bucket where it is missing; None where that is somebody else's."""
        self._site = site
        self._presence = presence
        self._log = log
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._declare = declare
        # When the last renewal that was stored had been sent; None before the first.
        self._renewed_at: float | None = None
        # Our pages that are to be written, each as it is to be: at most as many as there are pages.
        self._writes: dict[tuple[str, int], bytes | None] = {}
        self._to_write = asyncio.Event()
        # Watched channels, each with the sequence of every page that was read; None before the first read.
        self._watched: dict[str, dict[PageKey, int] | None] = {}
        # What is to be read: whole channels, and single pages with the least sequence that will do.
        self._unread: dict[str, None] = {}
        self._changed: dict[tuple[str, PageKey], int] = {}
        self._to_read = asyncio.Event()
        self._recent: OrderedDict[tuple[str, PageKey], int] = OrderedDict()
        # Replicas of which pages were seen while the consumer began, and those that had a lease; None afterwards.
        self._beginning: tuple[set[str], dict[tuple[str, PageKey], int]] | None = None
        self._strangers: set[str] = set()
        # Our own pages that were seen while the consumer began.
        self._own: set[tuple[str, int]] = set()
        # Whether the bucket's changes arrive.
        self.is_current = False

    async def run(self) -> None:
        """For ever; ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._renew())
            group.create_task(self._write())
            group.create_task(self._read())

    # Store.

    def write(self, channel: str, page: int, value: bytes | None) -> None:
        """Have this page of ours say this, or be gone."""
        self._writes[channel, page] = value
        self._to_write.set()

    def watch(self, channel: str) -> None:
        """Read the channel's pages, and each again when it changes."""
        self._watched[channel] = None
        self._unread[channel] = None
        self._to_read.set()

    def unwatch(self, channel: str) -> None:
        """Nothing more of it."""
        self._watched.pop(channel, None)
        self._unread.pop(channel, None)

    def bury(self, replica: str) -> None:
        """Its lease has ended and the grace is over: its pages go, but for what it may write from now on."""
        if self._site.is_region:
            return  # a region may empty nothing at the hub: the gateways there see the same lease end
        self._strangers.add(replica)
        self._to_write.set()

    # The lease.

    def _leased(self) -> bool:
        return self._renewed_at is not None and monotonic() - self._renewed_at < self._lease_seconds

    async def _renew(self) -> None:
        while is_wanted():
            pause = self._renew_seconds
            if self._presence.roster.count:
                try:
                    await self._renew_once()
                except _FAILURES as error:
                    self._log.info("presence_lease_not_renewed", error=str(error) or type(error).__name__)
                    pause = min(pause, _LONGEST_PAUSE / 4)
            await asyncio.sleep(pause)

    async def _renew_once(self) -> None:
        sent_at = monotonic()
        key = lease_key(self._presence.replica)
        await self._put(key, b"{}", {"Nats-TTL": f"{self._lease_seconds}s"})
        lapsed = self._renewed_at is not None and sent_at - self._renewed_at >= self._lease_seconds
        self._renewed_at = sent_at
        if lapsed:  # others may have buried us meanwhile
            self._presence.rewrite()

    async def _put(self, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Store, and know that it is stored.

        Raises:
            JetStreamError: it was refused.
            nats.errors.Error, NotConnected: nobody answered.
        """
        subject = jetstream.bucket_subject(PRESENCE, self._site.hub_domain) + key
        answer = await self._site.client.request(subject, value, timeout=_REQUEST_SECONDS, headers=headers)
        error = json.loads(answer.data).get("error")
        if error:
            raise jetstream.JetStreamError(error.get("err_code", 0), error.get("description", "refused"))

    # Our pages.

    async def _write(self) -> None:
        while is_wanted():
            await self._to_write.wait()
            try:
                if self._writes and not self._leased():
                    await self._renew_once()
                await self._write_some()
                await self._bury_strangers()
            except _FAILURES as error:
                self._log.info("presence_not_written", error=str(error) or type(error).__name__)
                await asyncio.sleep(_LONGEST_PAUSE / 4)
            if not self._writes and not self._strangers:
                self._to_write.clear()

    async def _write_some(self) -> None:
        taken = dict(list(self._writes.items())[:_WRITES_AT_ONCE])
        for place in taken:
            del self._writes[place]
        outcomes = await asyncio.gather(*(self._write_page(*one) for one in taken.items()), return_exceptions=True)
        failures = []
        for (place, value), outcome in zip(taken.items(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                self._writes.setdefault(place, value)  # unless it was changed again
                failures.append(outcome)
        if failures:
            raise failures[0]

    async def _write_page(self, place: tuple[str, int], value: bytes | None) -> None:
        channel, page = place
        key = page_key(channel, self._presence.replica, page)
        if value is None:
            gone = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{_MARK_SECONDS}s"}
            await self._put(key, b"", gone)
        else:
            await self._put(key, value, {})

    async def _bury_strangers(self) -> None:
        for replica in list(self._strangers):
            stored = await self._api(f"STREAM.INFO.KV_{PRESENCE}", {})
            graves = {"filter": f"{PREFIX}{MEMBERS_KEY}.*.*.{replica}.*", "seq": stored["state"]["last_seq"] + 1}
            if replica not in self._presence.leases:
                await self._api(f"STREAM.PURGE.KV_{PRESENCE}", graves)
            self._strangers.discard(replica)

    async def _api(self, subject: str, body: dict[str, object]) -> dict[str, Any]:
        return await jetstream.request(self._site.client, subject, body, api=self._site.hub_api)

    # What the others write.

    async def _follow(self) -> None:
        pause = _SHORTEST_PAUSE
        while is_wanted():
            began = monotonic()
            try:
                await self._follow_once()
            except _FAILURES as error:
                self._log.info("presence_not_followed", error=str(error) or type(error).__name__)
            self.is_current = False
            self._presence.deafened()
            pause = _SHORTEST_PAUSE if monotonic() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _follow_once(self) -> None:
        """One consumer's life: every key as it is, then every change."""
        self._beginning = (set(), {})
        self._own.clear()
        watch = KeyWatch(self._site, f"KV_{PRESENCE}", self._seen, self._all_seen)
        try:
            await watch.run()
        except jetstream.StreamMissing:
            if self._declare is not None:
                await self._declare()
            raise

    def _seen(self, subject: str, sequence: int, is_there: bool) -> None:
        """A key was written, or is gone."""
        tokens = subject[len(PREFIX) :].split(".")
        if tokens[0] == LEASE_KEY and len(tokens) == 2 and tokens[1] != self._presence.replica:
            self._lease_seen(tokens[1], is_there)
        elif tokens[0] == MEMBERS_KEY and len(tokens) == 5 and tokens[4].isdecimal():
            channel, replica, page = f"{tokens[1]}:{tokens[2]}", tokens[3], int(tokens[4])
            if replica != self._presence.replica:
                self._page_seen(channel, (replica, page), sequence, is_there)
            elif self._beginning is not None and is_there:
                self._own.add((channel, page))

    def _lease_seen(self, replica: str, is_there: bool) -> None:
        if self._beginning is not None:
            (self._beginning[0].add if is_there else self._beginning[0].discard)(replica)
        else:
            (self._presence.renewed if is_there else self._presence.ended)(replica)

    def _page_seen(self, channel: str, page: PageKey, sequence: int, is_there: bool) -> None:
        place = channel, page
        self._recent[place] = sequence
        self._recent.move_to_end(place)
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
        if self._beginning is not None:
            self._beginning[1][place] = sequence if is_there else 0
            return
        known = self._watched.get(channel)
        if known is None:
            return  # nobody watches it, or it is about to be read
        if is_there:
            self._changed[place] = sequence
            self._to_read.set()
        else:
            known.pop(page, None)
            self._presence.told(channel, {page: ()}, whole=False)

    def _all_seen(self) -> None:
        """The consumer has told everything as it was: now it tells what changes."""
        (living, pages), self._beginning = self._beginning or (set(), {}), None
        self._presence.hears(living)
        for channel, known in self._watched.items():
            if known is None:
                self._unread[channel] = None
                continue
            told = {page: pages.get((channel, page)) for page in known}
            for page in [page for page, sequence in told.items() if sequence == 0]:
                del known[page]
                self._presence.told(channel, {page: ()}, whole=False)
            if None in told.values():  # removed long ago, or the bucket is another one and will be written again
                asyncio.get_running_loop().call_later(self._lease_seconds, self._read_again, channel)
        for (channel, page), sequence in pages.items():
            if sequence and page[0] not in self._presence.leases:
                self.bury(page[0])
            known = self._watched.get(channel)
            if sequence and known is not None and known.get(page) != sequence:
                self._changed[channel, page] = sequence
        if any(place not in self._own for place in self._presence.roster.places()):
            self._renewed_at = None  # the bucket is not the one that we wrote to
            self._presence.rewrite()
        self.is_current = True
        self._to_read.set()
        self._to_write.set()

    # Reading pages.

    def _read_again(self, channel: str) -> None:
        if channel in self._watched:
            self._unread[channel] = None
            self._to_read.set()

    async def _read(self) -> None:
        while is_wanted():
            await self._to_read.wait()
            if not self.is_current:
                self._to_read.clear()  # set again once it is
                continue
            try:
                await self._read_some()
            except _FAILURES as error:
                self._log.info("presence_not_read", error=str(error) or type(error).__name__)
                await asyncio.sleep(_LONGEST_PAUSE / 4)
            if not self._unread and not self._changed:
                self._to_read.clear()

    async def _read_some(self) -> None:
        channels = list(self._unread)[:_READS_AT_ONCE]
        pages = list(self._changed.items())[:_READS_AT_ONCE]
        for channel in channels:
            del self._unread[channel]
        for place, _ in pages:
            del self._changed[place]
        readers = [*map(self._read_channel, channels), *(self._read_page(*one) for one in pages)]
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        failures = [one for one in outcomes if isinstance(one, BaseException)]
        for channel, outcome in zip(channels, outcomes, strict=False):
            if isinstance(outcome, BaseException) and channel in self._watched:
                self._unread[channel] = None
        for (place, sequence), outcome in zip(pages, outcomes[len(channels) :], strict=True):
            if isinstance(outcome, BaseException) and place[0] in self._watched:
                self._changed.setdefault(place, sequence)
        if failures:
            raise failures[0]

    async def _read_channel(self, channel: str) -> None:
        known: dict[PageKey, int] = {}
        found = await read_pages(self._site, channel, self._presence.replica, known)
        if channel not in self._watched:
            return
        self._watched[channel] = known
        self._presence.told(channel, found, whole=True)
        for place, sequence in self._recent.items():
            if place[0] == channel and place[1] in known and known[place[1]] < sequence:
                self._changed[place] = sequence

    async def _read_page(self, place: tuple[str, PageKey], least: int) -> None:
        channel, page = place
        key = page_key(channel, *page)
        subject = f"{self._site.hub_api}.DIRECT.GET.KV_{PRESENCE}.{PREFIX}{key}"
        answer = await self._site.client.request(subject, timeout=_REQUEST_SECONDS)
        known = self._watched.get(channel)
        if known is None:
            return
        sequence = int((answer.headers or {}).get("Nats-Sequence", 0))
        if not sequence:
            return  # gone meanwhile, which the consumer tells
        if sequence < least:
            raise jetstream.JetStreamError(0, "a copy of the bucket is behind")
        known[page] = sequence
        self._presence.told(channel, {page: members_of(answer.data)}, whole=False)
