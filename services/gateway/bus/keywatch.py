"""A watch of a bucket's keys without a gap: which key was written or removed, and at which sequence; no values.

A push consumer of headers alone, of the last message of each key and then of all that follow. Each delivery bears the
consumer's own count, and idle heartbeats what it has delivered; a count that is not the next one, or silence, ends
the watch, and its owner begins another one, which again tells every key as it is (as bus.feed does for events).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from time import monotonic

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from contracts.topology import BUCKET_SUBJECTS
from services.chassis import jetstream
from services.gateway.bus.control import read_control
from services.gateway.bus.parser import parser_of
from services.gateway.bus.site import Site

HEARTBEAT_SECONDS = 0.5
_SILENCE_SECONDS = 2.5 * HEARTBEAT_SECONDS
# A broken connection is noticed within this time: until then nobody may be told that others fell silent.
_LOOK_SECONDS = 0.1
_INACTIVE_SECONDS = 10
# In a message's headers: the key is gone, by its owner or by its time to live.
_GONE = (b"KV-Operation: DEL", b"KV-Operation: PURGE", b"Nats-Marker-Reason:")


class WatchBroken(Exception):
    """This consumer missed something; another one has to be made."""


class KeyWatch:
    """One consumer, from its making to its first fault."""

    def __init__(
        self, site: Site, stream: str, seen: Callable[[str, int, bool], None], all_seen: Callable[[], None]
    ) -> None:
        """`seen`: subject, sequence, whether the key is there; `all_seen`: every key has been told as it was."""
        self._site = site
        self._stream = stream
        self._seen = seen
        self._all_seen = all_seen
        # How many messages were delivered; and how many are to come before all keys were told, None afterwards.
        self._count = 0
        self._first: int | None = None
        self._heard = True
        self._fault: str | None = None
        # Flow-control requests to be answered; at most a few are ever under way.
        self._answers: deque[str] = deque()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Watch until the first fault.

        Raises:
            WatchBroken: something was missed.
            StreamMissing, JetStreamError, nats.errors.Error, NotConnected: it could not begin.
        """
        client = self._site.client
        inbox = client.new_inbox()
        name = "kw_" + inbox.rpartition(".")[2]
        subscription = await client.subscribe(inbox)
        parser_of(client).add(subscription._id, self._deliver)
        try:
            await self._open(client, inbox, name)
            await self._watch(client)
        finally:
            await self._close(client, subscription, name)

    async def _open(self, client: Client, inbox: str, name: str) -> None:
        config = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "filter_subject": f"{BUCKET_SUBJECTS}.{self._stream.removeprefix('KV_')}.>",
            "headers_only": True,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
            "inactive_threshold": _INACTIVE_SECONDS * 10**9,
            "mem_storage": True,
            "num_replicas": 1,
        }
        body = {"stream_name": self._stream, "config": config}
        subject = f"CONSUMER.CREATE.{self._stream}.{name}"
        made = await jetstream.request(client, subject, body, api=self._site.hub_api)
        # What was delivered before this answer was written counts as pending no more.
        self._first = made["num_pending"] + made["delivered"]["consumer_seq"]
        self._tell_all_seen()

    async def _watch(self, client: Client) -> None:
        heard_at = monotonic()
        while self._fault is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if not client.is_connected:
                raise WatchBroken("NATS is away")
            while self._answers:
                await client.publish(self._answers.popleft())
            if self._heard:
                self._heard, heard_at = False, monotonic()
            elif monotonic() - heard_at > _SILENCE_SECONDS:
                raise WatchBroken(f"silent for {_SILENCE_SECONDS} s")
        raise WatchBroken(self._fault)

    async def _close(self, client: Client, subscription: Subscription, name: str) -> None:
        self._fault = self._fault or "closed"
        parser_of(client).remove(subscription._id)
        try:
            await subscription.unsubscribe()
            await client.publish(f"{self._site.hub_api}.CONSUMER.DELETE.{self._stream}.{name}")
        except (nats.errors.Error, OSError):
            pass  # the connection is gone, and the consumer goes with its interest

    def _deliver(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self._heard = True
        if self._fault is not None:
            return
        if not reply.startswith(b"$JS.ACK."):
            self._control(reply, headers)
            return
        tokens = reply.split(b".")
        offset = 0 if len(tokens) == 9 else 2  # see bus.feed
        sequence, count = int(tokens[offset + 5]), int(tokens[offset + 6])
        if count != self._count + 1:
            self._break(f"delivery {self._count + 1} is missing, got {count}")
            return
        self._count = count
        self._seen(subject.decode(errors="replace"), sequence, not any(mark in headers for mark in _GONE))
        self._tell_all_seen()

    def _tell_all_seen(self) -> None:
        if self._first is not None and self._count >= self._first:
            self._first = None
            self._all_seen()

    def _control(self, reply: bytes, headers: bytes) -> None:
        told = read_control(reply, headers)
        if told.answers:
            self._answers.extend(told.answers)
            self._wake.set()
        if told.delivered is not None and told.delivered != self._count:
            self._break(f"{told.delivered} were delivered, {self._count} came")

    def _break(self, why: str) -> None:
        self._fault = why
        self._wake.set()
