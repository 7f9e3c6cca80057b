"""The site: this replica's connection to NATS, and the one raw request that nats-py does not wrap.

Batched direct get reads stored messages without making a consumer (ADR-31 of NATS); it is how a
stateless gateway replays.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.gateway.bus.parser import parser_of


class NotConnected(Exception):
    """The replica has no connection to NATS now."""


class DirectGetFailed(Exception):
    """The server refused or nobody answered."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored message."""

    sequence: int
    subject: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one direct get found."""

    messages: tuple[Stored, ...]
    # Whether the filter selects more behind the last message.
    more: bool


class Site:
    """Holds the client once there is one."""

    def __init__(self) -> None:
        self._client: Client | None = None

    def attach(self, client: Client) -> None:
        """NATS was reached; the feeds' parser is put in before anything but the greeting can have arrived."""
        parser_of(client)
        self._client = client

    @property
    def is_connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """The client.

        Raises:
            NotConnected: NATS was never reached, or is away.
        """
        if self._client is None or not self._client.is_connected:
            raise NotConnected("NATS is away")
        return self._client

    async def direct_get(self, stream: str, query: Mapping[str, Any], seconds: float) -> Batch:
        """One batched direct get.

        Raises:
            NotConnected, DirectGetFailed: nothing can be said of what is stored.
            TimeoutError: the batch was not complete in time.
        """
        client = self.client
        found: list[Stored] = []
        end: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            headers = message.headers or {}
            sequence = headers.get("Nats-Sequence")
            if sequence is not None and headers.get("Nats-Stream") != stream:
                # A mirror may answer for its stream (docs/adr/0013): what it lacks would be missed.
                if not end.done():
                    end.set_exception(DirectGetFailed(f"{stream}: answered by {headers.get('Nats-Stream')}"))
            elif sequence is not None:
                found.append(Stored(int(sequence), headers["Nats-Subject"], message.data))
            elif not end.done():
                status = headers.get("Status", "")
                if status in ("204", "404"):
                    end.set_result(status == "204" and headers.get("Nats-Num-Pending", "0") != "0")
                else:
                    end.set_exception(DirectGetFailed(f"{stream}: {status or 'no status'}"))

        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=receive, pending_msgs_limit=-1, pending_bytes_limit=-1)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(query).encode(), reply=inbox)
            async with asyncio.timeout(seconds):
                more = await end
        finally:
            await subscription.unsubscribe()
        return Batch(tuple(found), more)
