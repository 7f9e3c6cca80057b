"""Stores events in JetStream: each acknowledged, each subject's in order, a repetition told as one.

Events of one subject go one after the other, each after the last one's acknowledgement; subjects go side by
side. With several of a subject under way, one lost with its connection would be stored behind its successors.
Trying again is safe whatever became of the first try: the stream knows the event's id.
"""

import asyncio
import time
from collections.abc import Sequence

from nats.aio.client import Client
from nats.js.api import PubAck
from nats.js.errors import APIError

from contracts.cursor import Cursor
from contracts.envelope import Publication
from contracts.errors import ErrorCode, Problem
from services.chassis.append import FULL, RETRY_FULL_MS
from services.chassis.jetstream import JetStreamError
from services.chassis.streams import NATS_ERRORS, Life, Streams
from services.ingest.domain import NotStored, Stored
from services.ingest.metrics import Metrics

# One try for each.
_PAUSES_SECONDS = (0.0, 0.1, 0.4)
_RETRY_UNAVAILABLE_MS = 1000
_NEVER_SECONDS = 3600.0


class JetStreamStore:
    """The store behind `POST /v1/events`."""

    def __init__(
        self, streams: Streams, metrics: Metrics, *, window: int, ack_seconds: float, deadline_seconds: float
    ) -> None:
        self._streams = streams
        self._metrics = metrics
        # Publishes under way, over all requests: what nats-py and the server hold for us is bounded by it.
        self._window = asyncio.Semaphore(window)
        self._ack_seconds = ack_seconds
        self._deadline_seconds = deadline_seconds

    async def put(self, publications: Sequence[Publication]) -> list[Stored]:
        """As `services.ingest.domain.Store.put`."""
        request = _Request(publications)
        try:
            async with asyncio.timeout(self._deadline_seconds), asyncio.TaskGroup() as lanes:
                for lane in request.lanes():
                    lanes.create_task(self._put_lane(request, lane))
        except TimeoutError:
            request.failed(_unavailable(f"not all was stored within {self._deadline_seconds:g} s"))
        return request.outcome()

    async def _put_lane(self, request: "_Request", lane: Sequence[int]) -> None:
        for index in lane:
            async with self._window:
                if request.problem is not None:
                    return
                found = await self._put_one(request.publications[index])
            if isinstance(found, Problem):
                request.failed(found)
                return
            request.stored[index] = found

    async def _put_one(self, publication: Publication) -> Stored | Problem:
        problem = _unavailable("nothing was tried")
        for pause in _PAUSES_SECONDS:
            if pause:
                self._metrics.retries.inc()
                await asyncio.sleep(pause)
            # No further try where NATS stays away: whoever waits behind this one is better told soon.
            client = await self._streams.client(self._ack_seconds)
            if client is None:
                return _unavailable("NATS is away")
            try:
                async with asyncio.timeout(self._ack_seconds):
                    return await self._try(client, publication)
            except APIError as error:
                if error.err_code in FULL:
                    why = f"the stream {publication.stream} takes no more: {error.description}"
                    return Problem(ErrorCode.STORE_FULL, why, RETRY_FULL_MS)
                problem = _unavailable(f"the stream {publication.stream} refused: {error.description}")
            except (JetStreamError, *NATS_ERRORS) as error:
                problem = _unavailable(f"the stream {publication.stream} does not answer: {type(error).__name__}")
        return problem

    async def _try(self, client: Client, publication: Publication) -> Stored:
        life = await self._streams.life(client, publication.stream)
        # Whatever the stream stores after this moment is beyond it.
        floor, began = life.last, time.perf_counter()
        ack = await _publish(client, publication)
        self._metrics.publish_seconds.observe(time.perf_counter() - began)
        if not ack.duplicate and ack.seq <= floor:
            life = await self._streams.next_life(client, publication.stream, life)
        return self._stored(publication, ack, life)

    def _stored(self, publication: Publication, ack: PubAck, life: Life) -> Stored:
        life.last = max(life.last, ack.seq)
        self._metrics.events.labels(publication.stream, "duplicate" if ack.duplicate else "stored").inc()
        return Stored(publication.event_id, Cursor(publication.stream, life.epoch, ack.seq), bool(ack.duplicate))


class _Request:
    """One call of `put` under way."""

    def __init__(self, publications: Sequence[Publication]) -> None:
        self.publications = publications
        self.stored: list[Stored | None] = [None] * len(publications)
        # The first failure; once it is set, no lane begins with another event.
        self.problem: Problem | None = None

    def lanes(self) -> list[list[int]]:
        """The places of each subject's events, in order."""
        found: dict[str, list[int]] = {}
        for index, publication in enumerate(self.publications):
            found.setdefault(publication.subject, []).append(index)
        return list(found.values())

    def failed(self, problem: Problem) -> None:
        """Note why not all can be stored."""
        self.problem = self.problem or problem

    def outcome(self) -> list[Stored]:
        """All results, or NotStored with those that are known."""
        known = [each for each in self.stored if each is not None]
        if self.problem is not None:
            raise NotStored(self.problem, known)
        return known


def _unavailable(why: str) -> Problem:
    return Problem(ErrorCode.STORE_UNAVAILABLE, f"{why}; send the same events again", _RETRY_UNAVAILABLE_MS)


async def _publish(client: Client, publication: Publication) -> PubAck:
    headers = dict(publication.headers)  # nats-py writes the expected stream into it
    # The deadline is the caller's; nats-py's own would only be a second one.
    jetstream = client.jetstream(timeout=_NEVER_SECONDS)
    return await jetstream.publish(publication.subject, publication.payload, stream=publication.stream, headers=headers)
