"""Gossip: how replicas know each other, and how many connections each principal's id has on the others.

Every replica tells what has changed ten times a second, and once a second that it is there; the messages are numbered,
so who missed one asks for the whole. Nobody waits for an answer: a connection is judged by what is known. What a
replica told ends with its lease; while our own NATS is away nobody's lease can be judged, and none ends.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from time import monotonic

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from structlog.stdlib import BoundLogger

from contracts.fleet import COUNTS, WHOLE, AskWhole, Counts, counts_for
from services.chassis.tasks import is_wanted
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.headcount import Told
from services.gateway.core.replica import Replica

TURN_SECONDS = 0.1
LEASE_SECONDS = 3.0
_THERE_SECONDS = 1.0
# Between two questions to the same replica.
_ASK_AGAIN_SECONDS = 1.0
_LAST_WORD_SECONDS = 0.3
_COUNTS_A_MESSAGE = 2000
_FAILURES = (nats.errors.Error, NotConnected, OSError)


@dataclass(slots=True)
class Member:
    """Another replica of the fleet."""

    region: str
    until: float
    # Its last number; None until its whole has come.
    number: int | None = None
    asked_at: float = 0.0
    # Whether what it holds no longer counts.
    leaving: bool = False


class Gossip:
    """Tells this replica's headcount and hears the others'."""

    def __init__(self, site: Site, replica: Replica, name: str, log: BoundLogger) -> None:
        """`name`: this replica's, of chance."""
        self._site = site
        self._replica = replica
        self._headcount = replica.headcount
        self._log = log
        self.name = name
        self.members: dict[str, Member] = {}
        self._number = 0
        self._there_at = 0.0
        # Whose subscriptions we hear by, and how often it had reconnected when leases were last judged.
        self._client: Client | None = None
        self._reconnects = 0
        # Who is to be told the whole.
        self._askers: dict[str, None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while is_wanted():
                try:
                    await self._turn(self._site.client)
                except _FAILURES:
                    self._there_at = 0.0  # told again as soon as NATS is there
                await asyncio.sleep(TURN_SECONDS)
        finally:
            with contextlib.suppress(*_FAILURES):
                await self._site.client.publish(COUNTS, self._message({}, gone=True))
                await self._site.client.flush(_LAST_WORD_SECONDS)  # type: ignore[arg-type]  # annotated as int, waited as seconds

    async def _turn(self, client: Client) -> None:
        await self._listen(client)
        now = monotonic()
        counts = {} if self._replica.draining else self._headcount.changes()
        for part in _parts(counts):
            await self._tell_all(client, part)
        if now - self._there_at >= _THERE_SECONDS:
            await self._tell_all(client, {})
        while self._askers:
            asker, _ = self._askers.popitem()
            await self._tell_whole(client, asker)
        self._judge_leases(client, now)
        await self._ask(client, now)

    async def _listen(self, client: Client) -> None:
        if self._client is client:
            return
        await client.subscribe(COUNTS, cb=self._heard)
        await client.subscribe(counts_for(self.name), cb=self._heard)
        await client.subscribe(WHOLE, cb=self._asked)
        self._client, self._reconnects = client, client.stats["reconnects"]
        await client.publish(WHOLE, msgspec.json.encode(AskWhole(replica=self.name)))

    # Telling.

    async def _tell_all(self, client: Client, counts: dict[str, Told]) -> None:
        self._number += 1
        self._there_at = monotonic()
        await client.publish(COUNTS, self._message(counts))

    async def _tell_whole(self, client: Client, asker: str) -> None:
        whole = {} if self._replica.draining else self._headcount.whole()
        for place, part in enumerate(_parts(whole) or [{}]):
            await client.publish(counts_for(asker), self._message(part, whole=True, begins=place == 0))

    def _message(
        self, counts: dict[str, Told], *, whole: bool = False, begins: bool = False, gone: bool = False
    ) -> bytes:
        return msgspec.json.encode(
            Counts(
                replica=self.name,
                region=self._replica.region,
                number=self._number,
                counts=counts,
                whole=whole,
                begins=begins,
                leaving=self._replica.draining,
                gone=gone,
            )
        )

    async def _ask(self, client: Client, now: float) -> None:
        for name, member in self.members.items():
            if member.number is None and now - member.asked_at >= _ASK_AGAIN_SECONDS:
                member.asked_at = now
                await client.publish(WHOLE, msgspec.json.encode(AskWhole(replica=self.name, of=name)))

    # Hearing.

    async def _asked(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            asked = msgspec.json.decode(message.data, type=AskWhole)
            if asked.replica != self.name and asked.of in (None, self.name):
                self._askers[asked.replica] = None

    async def _heard(self, message: Msg) -> None:
        try:
            told = msgspec.json.decode(message.data, type=Counts)
        except msgspec.DecodeError as error:
            self._log.warning("not_gossip", error=str(error))
            return
        if told.replica == self.name:
            return
        if told.gone:
            self._forget(told.replica)
            return
        member = self.members.get(told.replica)
        if member is None:
            member = self.members[told.replica] = Member(told.region, 0.0)
            self._log.info("replica_joined", replica=told.replica, region=told.region)
        member.until = monotonic() + LEASE_SECONDS
        member.leaving = told.leaving
        self._follow(member, told)
        if told.leaving:
            self._headcount.forget(told.replica)
            return
        for sub in self._headcount.hear(told.replica, told.region, told.counts, anew=told.begins):
            self._replica.trim(sub)

    def _follow(self, member: Member, told: Counts) -> None:
        """Note whether all that it said was heard."""
        if told.whole:
            member.number = told.number
        elif member.number is not None:
            member.number = told.number if told.number == member.number + 1 else None

    def _judge_leases(self, client: Client, now: float) -> None:
        reconnects = client.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects = reconnects
            for member in self.members.values():
                member.until = now + LEASE_SECONDS
        for name in [name for name, member in self.members.items() if member.until <= now]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        member = self.members.pop(name, None)
        if member is not None:
            self._log.info("replica_left", replica=name, region=member.region)
        self._headcount.forget(name)


def _parts(counts: dict[str, Told]) -> list[dict[str, Told]]:
    listed = list(counts.items())
    return [dict(listed[start : start + _COUNTS_A_MESSAGE]) for start in range(0, len(listed), _COUNTS_A_MESSAGE)]
