"""Control: the reader of the stream CONTROL, one in each service that takes tokens.

Reads what is stored from the first revocation on, then what is added: within a second of its storing by looking, and
within milliseconds where the publish itself is heard. Where NATS is away what is known goes on to hold. A stream that
was made again is read again, and takes back nothing that was known: a lost stream pardons nobody.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import monotonic

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from structlog.stdlib import BoundLogger

from contracts.revocation import REVOCATION_SUBJECTS, InvalidRevocation, Revocation, read
from contracts.topology import CONTROL, StreamSpec
from services.chassis import jetstream
from services.chassis.direct import DirectGetFailed, Stored, direct_get
from services.chassis.revocations import Revocations
from services.chassis.tasks import is_wanted

LOOK_SECONDS = 0.5
# Before the first answer nobody is let in: the stream, which may be about to be made, is looked for this soon, then
# twice as long each time.
_FIRST_LOOK_SECONDS = 0.02
# After a publish was heard: the copy that is read may have it a moment later.
_HURRY_SECONDS = 0.02
_HURRY_LOOKS = 25
_READ_SECONDS = 5.0
_BATCH = 1000
_BATCH_BYTES = 1024 * 1024
# Longer without an answer is told in `/readyz`.
_LATE_SECONDS = 5.0
_FAILURES = (nats.errors.Error, OSError, TimeoutError, jetstream.JetStreamError, DirectGetFailed)

Connection = Callable[[], Awaitable[Client | None]]
OnRevoked = Callable[[Sequence[Revocation]], None]


class ControlReader:
    """Keeps `Revocations` as the stream has them."""

    def __init__(
        self,
        client: Connection,
        revocations: Revocations | None,
        log: BoundLogger,
        *,
        declare: Iterable[StreamSpec] = (),
        on_revoked: OnRevoked | None = None,
    ) -> None:
        """`client` is None while NATS is away; `declare`: what to make where it is missing."""
        self._client = client
        # A verifier by itself has none; the stream is read all the same.
        self._revocations = Revocations() if revocations is None else revocations
        self._log = log
        self._declare = tuple(declare)
        self._on_revoked = on_revoked
        # Which life of the stream was read, and up to where.
        self._epoch = ""
        self._read = 0
        # How long to wait for the next look, until the stream has answered.
        self._soon = _FIRST_LOOK_SECONDS
        # When the stream last answered.
        self._answered_at: float | None = None
        self._trouble = "not looked at yet"
        # Whose subscription tells of new ones; another client needs another.
        self._heard_by: Client | None = None
        self._heard = asyncio.Event()
        # How many looks are to follow each other quickly.
        self._hurry = 0

    def failing(self) -> str | None:
        """Why it is not known who is revoked, for `/readyz`; late news is told, and is no reason to stop serving."""
        return None if self._revocations.is_current else f"revocations are not read yet: {self._trouble}"

    def facts(self) -> dict[str, object]:
        """For `/readyz`: how many stand, and since when nothing could be heard of new ones, if it is long."""
        since = 0.0 if self._answered_at is None else monotonic() - self._answered_at
        stale = {"stale_s": round(since)} if since > _LATE_SECONDS else {}
        return {"known": len(self._revocations), **stale}

    async def run(self) -> None:
        """Follow until cancelled."""
        while is_wanted():
            client = await self._client()
            if client is None:
                self._trouble = "NATS is away"
            else:
                await self._look(client)
            self._revocations.sweep()
            await self._wait()

    async def _wait(self) -> None:
        seconds = LOOK_SECONDS
        if self._answered_at is None:
            seconds, self._soon = self._soon, min(2 * self._soon, LOOK_SECONDS)
        elif self._hurry:
            self._hurry -= 1
            seconds = _HURRY_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        if self._heard.is_set():
            self._heard.clear()
            self._hurry = _HURRY_LOOKS

    async def _look(self, client: Client) -> None:
        try:
            await self._listen(client)
            state = await jetstream.state(client, CONTROL)
            if state.epoch != self._epoch or state.last < self._read:
                self._epoch, self._read = state.epoch, 0
            if state.last > self._read and state.messages:
                await self._read_on(client)
                if not self._revocations.is_current:
                    await self._confirm(client)
        except jetstream.StreamMissing:
            await self._make(client)
        except _FAILURES as error:
            self._tell(str(error) or type(error).__name__)
        else:
            self._answered_at = monotonic()
            self._revocations.is_current = True
            self._tell("")

    async def _listen(self, client: Client) -> None:
        """Hear each publish as it goes by; what is believed is what is stored."""
        if self._heard_by is client:
            return

        async def heard(_: Msg) -> None:
            self._heard.set()

        await client.subscribe(REVOCATION_SUBJECTS, cb=heard)
        self._heard_by = client

    async def _read_on(self, client: Client) -> None:
        more = True
        while more:
            query = {
                "seq": self._read + 1,
                "next_by_subj": REVOCATION_SUBJECTS,
                "batch": _BATCH,
                "max_bytes": _BATCH_BYTES,
            }
            batch = await direct_get(client, CONTROL, query, _READ_SECONDS)
            self._take(batch.messages)
            more = batch.more and bool(batch.messages)

    async def _confirm(self, client: Client) -> None:
        """Ask the stream's leader whether the copy that was read had all of it: else nobody may be let in yet.

        Raises:
            DirectGetFailed: it is behind.
        """
        try:
            query = {"last_by_subj": REVOCATION_SUBJECTS}
            newest = (await jetstream.request(client, f"STREAM.MSG.GET.{CONTROL}", query))["message"]["seq"]
        except jetstream.JetStreamError as error:
            if error.code == jetstream.NO_MESSAGE:
                return
            raise
        if newest > self._read:
            raise DirectGetFailed("a copy of the stream is behind")

    def _take(self, messages: Sequence[Stored]) -> None:
        found = []
        for stored in messages:
            self._read = stored.sequence
            if not stored.payload:
                continue  # the server's own marker of one that has ended
            try:
                found.append(read(stored.payload))
            except InvalidRevocation as error:
                self._log.error("not_a_revocation", sequence=stored.sequence, error=str(error))
        for revocation in found:
            self._revocations.apply(revocation)
        if found:
            self._hurry = 0
            if self._on_revoked is not None:
                self._on_revoked(found)

    async def _make(self, client: Client) -> None:
        if not self._declare:
            self._tell(f"there is no stream {CONTROL}")
            return
        try:
            await jetstream.ensure(client, self._declare)
        except _FAILURES as error:
            self._tell(str(error) or type(error).__name__)
        else:
            self._heard.set()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            if trouble:
                self._log.warning("revocations_not_read", error=trouble)
            else:
                self._log.info("revocations_read", known=len(self._revocations), upto=self._read)
        self._trouble = trouble
