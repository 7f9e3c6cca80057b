"""Signals between replicas: core NATS, one subject a channel, never stored.

One wild-card subscription a replica: a signal of a channel that nobody here is subscribed to costs a look into a
dictionary (docs/adr/0032). What cannot be sent at once is dropped.
"""

import asyncio

import nats.errors
from nats.aio.client import Client

from contracts.presence import SIGNAL_SUBJECT, signal_subject
from services.chassis.tasks import is_wanted
from services.gateway.bus.parser import parser_of
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.signals import Signals

_MOST_WAITING = 1024
_RETRY_SECONDS = 1.0


class SignalLine:
    """Carries signals both ways; implements `core.signals.Carrier`."""

    def __init__(self, site: Site, signals: Signals, replica: str) -> None:
        self._site = site
        self._signals = signals
        self._replica = replica
        self._own = replica.encode()
        # Between the core, which never waits, and NATS; a full one drops.
        self._outgoing: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_MOST_WAITING)

    def carry(self, channel: str, payload: bytes) -> bool:
        """Send to the other replicas; False where that cannot be done now."""
        if not self._site.is_connected:
            return False
        try:
            self._outgoing.put_nowait((signal_subject(channel, self._replica), payload))
        except asyncio.QueueFull:
            return False
        return True

    async def run(self) -> None:
        """For ever; ends by cancellation only."""
        while is_wanted():
            try:
                await self._listen(self._site.client)
                break
            except (nats.errors.Error, NotConnected, OSError):
                await asyncio.sleep(_RETRY_SECONDS)
        while is_wanted():
            subject, payload = await self._outgoing.get()
            try:
                await self._site.client.publish(subject, payload)
            except (nats.errors.Error, NotConnected, OSError):
                self._signals.tally.drop("not_carried")

    async def _listen(self, client: Client) -> None:
        # It is the client's own from here on: it subscribes again with each reconnect.
        subscription = await client.subscribe(f"{SIGNAL_SUBJECT}.>")
        parser_of(client).add(subscription._id, self._arrived)

    def _arrived(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        tokens = subject.split(b".")
        if len(tokens) == 5 and tokens[4] != self._own and subject.isascii():
            self._signals.arrived(tokens[2].decode(), tokens[3].decode(), payload)
