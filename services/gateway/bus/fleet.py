"""The fleet: one question to every replica in every region, and their answers within a deadline.

Who is asked is who gossips; a replica that did not answer in time is named, never left out silently.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from structlog.stdlib import BoundLogger

from contracts.fleet import CLOSE, LIST, CloseConnection, Closed, ConnectionQuery, SeenConnection, SeenPage
from services.chassis.tasks import is_wanted
from services.gateway.bus.gossip import TURN_SECONDS, Gossip
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.listing import close, listed
from services.gateway.core.replica import Replica

ANSWER_SECONDS = 2.0
_FAILURES = (nats.errors.Error, NotConnected, OSError)
Answer = TypeVar("Answer", SeenPage, Closed)


@dataclass(frozen=True, slots=True)
class Listed:
    """A page over the whole fleet."""

    connections: list[SeenConnection]
    more: bool
    # Replicas that did not answer.
    unanswered: list[str]


class Fleet:
    """Asks the replicas, and answers as one of them."""

    def __init__(self, site: Site, replica: Replica, gossip: Gossip, log: BoundLogger) -> None:
        self._site = site
        self._replica = replica
        self._gossip = gossip
        self._log = log
        self._client: Client | None = None

    @property
    def name(self) -> str:
        """This replica's."""
        return self._gossip.name

    async def run(self) -> None:
        """Answer until cancelled."""
        while is_wanted():
            with contextlib.suppress(*_FAILURES):
                client = self._site.client
                if self._client is not client:
                    await client.subscribe(LIST, cb=self._list)
                    await client.subscribe(CLOSE, cb=self._close)
                    self._client = client
            await asyncio.sleep(TURN_SECONDS)

    async def connections(self, *, sub: str | None, channel: str | None, after: str, limit: int) -> Listed:
        """The open connections of all replicas, in the order in which they began."""
        query = ConnectionQuery(asker=self.name, sub=sub, channel=channel, after=after, limit=limit)
        pages, unanswered = await self._ask(LIST, msgspec.json.encode(query), SeenPage, lambda _: False)
        pages.append(listed(self._replica, self.name, query))
        found = sorted((one for page in pages for one in page.connections), key=lambda one: one.id)
        more = len(found) > limit or any(page.more for page in pages)
        return Listed(found[:limit], more, unanswered)

    async def close(self, connection_id: str, by: str) -> tuple[bool, list[str]]:
        """Close a connection, whoever has it; whether somebody had, and who did not answer."""
        if self._close_here(connection_id, by):
            return True, []
        request = msgspec.json.encode(CloseConnection(asker=self.name, id=connection_id, by=by))
        answers, unanswered = await self._ask(CLOSE, request, Closed, lambda answer: answer.closed)
        return any(answer.closed for answer in answers), unanswered

    async def _ask(
        self, subject: str, request: bytes, kind: type[Answer], suffices: Callable[[Answer], bool]
    ) -> tuple[list[Answer], list[str]]:
        """Every other replica's answer, or those that came in time; no more are waited for once one `suffices`."""
        expected = set(self._gossip.members)
        answers: dict[str, Answer] = {}
        done = asyncio.Event()
        if not expected:
            return [], []

        async def receive(message: Msg) -> None:
            with contextlib.suppress(msgspec.DecodeError):
                answer = msgspec.json.decode(message.data, type=kind)
                answers[answer.replica] = answer
                if suffices(answer) or expected <= answers.keys():
                    done.set()

        with contextlib.suppress(TimeoutError, *_FAILURES):
            client = self._site.client
            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox, cb=receive)
            try:
                await client.publish(subject, request, reply=inbox)
                async with asyncio.timeout(ANSWER_SECONDS):
                    await done.wait()
            finally:
                await subscription.unsubscribe()
        return list(answers.values()), sorted(expected - answers.keys())

    # As one of those that are asked.

    async def _list(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError, *_FAILURES):
            query = msgspec.json.decode(message.data, type=ConnectionQuery)
            if query.asker != self.name:
                await message.respond(msgspec.json.encode(listed(self._replica, self.name, query)))

    async def _close(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError, *_FAILURES):
            asked = msgspec.json.decode(message.data, type=CloseConnection)
            if asked.asker != self.name:
                closed = self._close_here(asked.id, asked.by)
                await message.respond(msgspec.json.encode(Closed(replica=self.name, closed=closed)))

    def _close_here(self, connection_id: str, by: str) -> bool:
        found = close(self._replica, connection_id)
        if found:
            self._log.info("audit", action="connection_closed", connection=connection_id, by=by)
        return found
