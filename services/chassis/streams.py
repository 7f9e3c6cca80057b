"""The connection to NATS, and which life of each stream an acknowledged sequence belongs to.

Law: an epoch is read before the event it is told with is published. So a cursor's epoch may be too old,
which a gateway tells as a gap; it is never too new, which nobody could notice.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from structlog.stdlib import BoundLogger

from contracts.topology import StreamSpec
from services.chassis.jetstream import (
    UNKNOWN_SYNC,
    JetStreamError,
    NoRoom,
    StreamMissing,
    StreamState,
    connect,
    durability,
    ensure,
    state,
    sync_interval,
)
from services.chassis.tasks import is_wanted

SURVEY_SECONDS = 2.0
# Longer than the survey's rhythm: while that runs, a publish finds the epoch at hand.
_FRESH_SECONDS = 5.0
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
# How often a broken connection is looked at; nats-py tells its return to nobody who waits.
_LOOK_AGAIN_SECONDS = 0.02

NATS_ERRORS = (nats.errors.Error, OSError)


@dataclass(slots=True)
class Life:
    """One life of a stream, as far as it is known here."""

    state: StreamState
    # The highest sequence told: whatever is published from now on gets a higher one, or the stream was made again.
    last: int
    read_at: float
    # The connection's count of reconnects at that time; after another the server may have lost the stream.
    reconnects: int

    @property
    def epoch(self) -> str:
        """The life's name."""
        return self.state.epoch


class Streams:
    """Connects, stays connected, makes the streams where it is to, and keeps their lives known."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        specs: Sequence[StreamSpec],
        needed: Iterable[str],
        declare: bool,
        monitor_url: str | None,
        log: BoundLogger,
        domain: str = "",
    ) -> None:
        """`domain`: of the hub's JetStream, in a region; the streams are there."""
        self._url = url
        self._domain = domain
        # What the connection is called at the server.
        self._name = name
        self._specs = specs
        self._needed = tuple(needed)
        # Whether the streams are still to be made.
        self._declare = declare
        self._monitor_url = monitor_url
        self._log = log
        # None until NATS was there for the first time; from then on it reconnects by itself.
        self._client: Client | None = None
        self._lives: dict[str, Life] = {}
        # One epoch is read at a time; who waited finds it fresh.
        self._reading = asyncio.Lock()
        # Why the last survey failed; None after one that did not.
        self._trouble: str | None = "not looked at yet"
        # How soon the server syncs to disk, as its monitoring port tells.
        self._sync = UNKNOWN_SYNC

    def nats_failing(self) -> str | None:
        """Why NATS is not there, for `/readyz`."""
        if self._client is None:
            return f"not yet connected to NATS at {self._place}"
        return None if self._client.is_connected else f"reconnecting to NATS at {self._place}"

    def streams_failing(self) -> str | None:
        """Why events cannot be stored, for `/readyz`."""
        return self._trouble

    def durability(self) -> dict[str, object]:
        """The grade of an acknowledgement (DESIGN decision 13)."""
        return durability([life.state for life in self._lives.values()], self._sync)

    def epochs(self) -> dict[str, str]:
        """Each stream's epoch, for `/readyz`."""
        return {name: life.epoch for name, life in self._lives.items()}

    @property
    def _place(self) -> str:
        return self._url.rpartition("@")[2]

    async def run(self) -> None:
        """Connect, then survey the streams until cancelled.

        Raises:
            NoRoom: at start, the server cannot reserve what a stream asks for.
        """
        client = await self._connect()
        try:
            self._client = client
            while is_wanted():
                await self._survey(client)
                await asyncio.sleep(SURVEY_SECONDS)
        finally:
            with contextlib.suppress(*NATS_ERRORS):
                await asyncio.wait_for(client.close(), _CLOSE_SECONDS)

    async def _connect(self) -> Client:
        delay = _FIRST_DELAY_SECONDS
        while is_wanted():
            try:
                return await connect(self._url, name=self._name, log=self._log, domain=self._domain)
            except NATS_ERRORS as error:
                why = str(error) or type(error).__name__
                self._log.warning("waiting_for_nats", url=self._place, error=why, next_try_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
        raise asyncio.CancelledError

    async def _survey(self, client: Client) -> None:
        try:
            if self._declare:
                # At start only (DESIGN decision 11): a stream that is gone later may be about to be restored.
                await ensure(client, self._specs)
                self._declare = False
            for stream in self._needed:
                await self._read(client, stream)
            if self._monitor_url is not None:
                self._sync = await sync_interval(self._monitor_url)
        except NoRoom:
            raise
        except StreamMissing:
            self._tell(f"a stream is missing; needed are {', '.join(self._needed)}")
        except (JetStreamError, *NATS_ERRORS) as error:
            self._tell(f"JetStream does not answer: {str(error) or type(error).__name__}")
        else:
            self._tell(None)

    def _tell(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._log.info("streams_ready") if trouble is None else self._log.warning("streams_failing", why=trouble)
        self._trouble = trouble

    async def client(self, seconds: float) -> Client | None:
        """The connection; where it is broken, what became of it within `seconds`: None if it is still away."""
        client = self._client
        if client is None or _stands(client):
            return client
        deadline = asyncio.get_running_loop().time() + seconds
        while not _stands(client):
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return client

    async def life(self, client: Client, stream: str) -> Life:
        """The stream's present life, read a few seconds ago at most and on this connection.

        Raises:
            StreamMissing, JetStreamError, nats.errors.Error: it cannot be told now.
        """
        if not self._is_fresh(client, stream):
            async with self._reading:
                if not self._is_fresh(client, stream):
                    await self._read(client, stream)
        return self._lives[stream]

    async def next_life(self, client: Client, stream: str, ended: Life) -> Life:
        """The life of an event whose sequence does not lie beyond what `ended` had told.

        It is the one epoch that is read after its event. For it to be too new, the stream would have to be made again
        twice, here and within the millisecond until it is read.
        """
        self.forget(stream, ended)
        return await self.life(client, stream)

    def forget(self, stream: str, life: Life) -> None:
        """`life` has ended; others may have read the next one already."""
        if self._lives.get(stream) is life:
            del self._lives[stream]

    def _is_fresh(self, client: Client, stream: str) -> bool:
        life = self._lives.get(stream)
        if life is None or life.reconnects != _reconnects(client):
            return False
        return asyncio.get_running_loop().time() - life.read_at < _FRESH_SECONDS

    async def _read(self, client: Client, stream: str) -> None:
        # Both before the question: what changes while it is under way makes the answer old, not new.
        read_at, reconnects = asyncio.get_running_loop().time(), _reconnects(client)
        found = await state(client, stream)
        life = self._lives.get(stream)
        if life is None or life.epoch != found.epoch:
            self._lives[stream] = Life(found, found.last, read_at, reconnects)
            return
        life.state, life.last = found, max(life.last, found.last)
        life.read_at, life.reconnects = read_at, reconnects


def _stands(client: Client) -> bool:
    """Whether it is connected now; a function, because to a type checker a property asked twice is the same."""
    connected: bool = client.is_connected
    return connected


def _reconnects(client: Client) -> int:
    count: int = client.stats["reconnects"]
    return count
