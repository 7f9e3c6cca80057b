"""The feed: a gapless tail of one stream (DESIGN decision 1).

A push consumer that nobody acknowledges, read through a plain core subscription. Each delivery
bears the consumer's own count; a count that is not the next one, or silence, and the consumer is
made again after the last sequence that was taken. Sequences that are passed over are accounted
for before what follows is taken: the stream may have let go of them first. Before each making the stream's life and
bounds are compared: a start beyond the end would be silent for ever (FACTS, nats-py). The life is
looked at meanwhile too: a new one that is declared for what is stored leaves the consumer as it was.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from structlog.stdlib import BoundLogger

from contracts.cursor import epoch_is_older
from services.chassis import jetstream
from services.chassis.direct import DirectGetFailed
from services.chassis.prefix import LOCAL_API
from services.chassis.tasks import is_wanted
from services.gateway.bus.control import read_control
from services.gateway.bus.decode import Decoder
from services.gateway.bus.parser import number, parser_of
from services.gateway.bus.place import Behind, Place, is_whole
from services.gateway.bus.site import NotConnected, Site
from services.gateway.core.log import Entry
from services.gateway.core.replica import Tally
from services.gateway.core.stream import Stream

HEARTBEAT_SECONDS = 1.0
_SILENCE_SECONDS = 2.5 * HEARTBEAT_SECONDS
# How often the life is looked at, and how long that may hold up flow control.
_LOOK_SECONDS = 5.0
_LOOK_PATIENCE_SECONDS = 0.5
_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
# A batch is written when the loop comes round. Where it holds this many events by then, and as many again after the
# next turn, more are on their way: it waits for as long as each pause brings as many (32,000 a second), so that a
# connection gets several by one write. It never waits longer than this, nor holds more than those.
_BURST_EVENTS = 32
_BURST_PAUSE_SECONDS = 0.001
_BURST_SECONDS = 0.03
_BATCH_EVENTS = 4096
_BATCH_BYTES = 4 * 1024**2
_INACTIVE_SECONDS = 10
# How many holes of a mirror the hub is asked about at a time.
_ASKED_AT_ONCE = 64
_FAILURES = (nats.errors.Error, NotConnected, DirectGetFailed, Behind, jetstream.JetStreamError, TimeoutError, OSError)


class _Broken(Exception):
    """This consumer missed something; another one has to be made."""


class Feed:
    """Keeps one `Stream` at the end of what is stored."""

    def __init__(
        self,
        site: Site,
        stream: Stream,
        decoder: Decoder,
        tally: Tally,
        log: BoundLogger,
        *,
        warm_events: int,
        declare: Callable[[], Awaitable[object]] | None,
        hub: Place | None = None,
    ) -> None:
        """`warm_events`: how far before the end a new replica begins, so that a storm finds its events in memory.

        `declare` makes the stream where it is missing; None where that is somebody else's. `hub`: the stream itself,
        where what is read is a region's mirror of it.
        """
        self._site = site
        self._stream = stream
        self._decoder = decoder
        self._tally = tally
        self._log = log.bind(stream=stream.name)
        self._warm_events = warm_events
        self._declare = declare
        self._hub = hub
        # The end of the stream when the present consumer was made: the feed is current once it has got there.
        self._goal: int | None = None
        self._consumer: _Consumer | None = None

    @property
    def lag(self) -> str | None:
        """None while the feed follows the stream; else why not."""
        if self._consumer is None or self._goal is None:
            return f"not following {self._stream.name}"
        if self._stream.log.high < self._goal:
            return f"{self._goal - self._stream.log.high} events of {self._stream.name} behind"
        return None

    async def run(self) -> None:
        """Follow for ever; ends by cancellation only."""
        pause = _SHORTEST_PAUSE
        while is_wanted():
            began = monotonic()
            try:
                await self._follow()
            except (*_FAILURES, _Broken) as error:
                self._tally.feed_resets += 1
                self._log.warning("feed_reset", error=str(error) or type(error).__name__)
            pause = _SHORTEST_PAUSE if monotonic() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _follow(self) -> None:
        """One consumer's life."""
        client = self._site.client
        try:
            state = await jetstream.state(client, self._stream.name)
        except jetstream.StreamMissing:
            if self._declare is not None:
                await self._declare()
            raise
        await self._compare(state)
        self._goal = state.last
        consumer = self._consumer = _Consumer(client, self._stream, self._decoder, self._tally, self._hub)
        try:
            await consumer.open()
            self._log.info("feed_following", after=self._stream.log.high, last=state.last)
            await consumer.watch()
        finally:
            self._consumer = None
            await consumer.close()

    async def _compare(self, state: jetstream.StreamState) -> None:
        """Make the log fit the stream as it is now: opened, unchanged, made again, cut back, or trimmed past us.

        In a region the readers are told a gap only by what the hub lacks: they go on from where they are, or from the
        beginning of a new life, and what the mirror does not have they read from the hub.
        """
        stream, bottom, is_region = self._stream, state.first - 1, self._hub is not None
        if is_region and not is_whole(state):
            raise _Broken("what is here is no mirror of the whole stream")
        if not stream.is_open:
            stream.open(state.epoch, max(bottom, state.last - self._warm_events, 0))
            return
        high = stream.log.high
        if state.epoch != stream.log.life.epoch:
            if is_region and epoch_is_older(state.epoch, stream.log.life.epoch):
                raise _Broken("the mirror is of an earlier life than what was read")
            reason, to, begins = "recreated", 0 if is_region else bottom, bottom
        elif state.last < high:
            reason, to = "ahead", state.last if self._hub is None else await self._end_at_hub(self._hub, state)
            begins = min(to, state.last)
        elif bottom > high:
            reason, to, begins = "expired", 0 if is_region else bottom, bottom
        else:
            return
        self._log.warning(
            "feed_restart", reason=reason, epoch=state.epoch, high=high, first=state.first, last=state.last
        )
        stream.restart(reason, state.epoch, to, begins=begins)

    async def _end_at_hub(self, hub: Place, state: jetstream.StreamState) -> int:
        """The end of the hub's stream where that was cut back too; a mirror alone is only being filled again."""
        found = await hub.state()
        if found.epoch != state.epoch or found.last >= self._stream.log.high:
            raise _Broken(
                f"the mirror has {state.last} of {self._stream.log.high} events that were read; it is filled again"
            )
        return found.last


class _Consumer:
    """One push consumer, from its making to its first fault."""

    def __init__(
        self, client: Client, stream: Stream, decoder: Decoder, tally: Tally, hub: Place | None = None
    ) -> None:
        self._client = client
        self._hub = hub
        self._stream = stream
        self._decode = decoder.entry
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._name = ""
        self._subscription: Subscription | None = None
        # Entries taken in this turn of the loop, and the sequence reached with them.
        self._batch: list[Entry] = []
        self._batch_bytes = 0
        self._high = stream.log.high
        self._flush_is_due = False
        # How much of the batch was here when it was last looked at, and until when it may wait for more.
        self._seen = 0
        self._flush_by = 0.0
        # How many messages this consumer has delivered.
        self._count = 0
        # Where sequences were passed over that nobody has accounted for: the one before and the one after. What came
        # behind the first is held back until `watch` has asked. Flow control, unanswered meanwhile, bounds it.
        self._holes: list[tuple[int, int]] = []
        # Whether anything has come since `watch` last looked.
        self._heard = True
        # The first fault.
        self._fault: str | None = None
        # Flow-control requests that `watch` has to answer; at most a few are ever under way.
        self._answers: deque[str] = deque()
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Make the consumer after the log's high watermark; delivery may begin before this returns."""
        client = self._client
        inbox = client.new_inbox()
        self._name = "gw_" + inbox.rpartition(".")[2]
        self._subscription = await client.subscribe(inbox)
        parser_of(client).add(self._subscription._id, self._deliver)
        config = {
            "name": self._name,
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._high + 1,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
            "inactive_threshold": _INACTIVE_SECONDS * 10**9,
            "mem_storage": True,
            "num_replicas": 1,
        }
        name = self._stream.name
        await jetstream.request(client, f"CONSUMER.CREATE.{name}.{self._name}", {"stream_name": name, "config": config})

    async def watch(self) -> None:
        """Answer flow control until the first fault or silence.

        Raises:
            _Broken: always.
        """
        heard_at = looked_at = monotonic()
        while self._fault is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS / 2):
                    await self._wake.wait()
            self._wake.clear()
            while self._holes and self._fault is None:
                await self._settle(list(self._holes))
            while self._answers:
                self._flush()
                await self._client.publish(self._answers.popleft())
            if self._heard:
                self._heard, heard_at = False, monotonic()
            elif monotonic() - heard_at > _SILENCE_SECONDS:
                raise _Broken(f"silent for {_SILENCE_SECONDS} s")
            if monotonic() - looked_at > _LOOK_SECONDS:
                await self._look()
                looked_at = monotonic()
        raise _Broken(self._fault)

    async def _settle(self, holes: list[tuple[int, int]]) -> None:
        """Whether what is missing was deleted one by one, or let go from the front before it could come, or lost here.

        The bounds are read after what came behind it: had it been let go, they would begin behind it. A mirror that was
        cut off passes over what its stream has let go meanwhile, without letting go itself.
        """
        low, firsts = holes[0][0], [(await jetstream.state(self._client, self._stream.name)).first]
        lost = None
        if self._hub is not None and (hub_first := await self._beginning_of(self._hub)) is not None:
            firsts.append(hub_first)
            lost = await _first_at(self._hub, holes)
        if max(firsts) > low + 1:
            self._break(f"what follows {low} was let go before it came")
        elif lost is not None:
            self._break(f"the mirror lacks {lost}, which the hub has: it has to be made again")
        else:
            del self._holes[: len(holes)]
            self._flush()

    async def _beginning_of(self, hub: Place) -> int | None:
        """Where the hub's stream begins; None where it does not answer, and nothing new comes either."""
        with contextlib.suppress(*_FAILURES):
            return (await hub.state()).first
        return None

    async def _look(self) -> None:
        """Whether the stream still is of the life that is read; where it does not say, silence tells."""
        with contextlib.suppress(*_FAILURES):
            state = await jetstream.state(self._client, self._stream.name, seconds=_LOOK_PATIENCE_SECONDS)
            if state.epoch != self._stream.log.life.epoch:
                self._break(f"a new life was declared: {state.epoch}")

    async def close(self) -> None:
        """Write what was taken; have the server forget the consumer (it would by itself after a while)."""
        self._break("closed")
        if self._holes:
            self._high = self._holes[0][0]
            self._batch = [entry for entry in self._batch if entry.sequence <= self._high]
            self._holes.clear()
        self._flush()
        self._high = 0  # a flush that is still scheduled must not touch the log of the next consumer
        if self._subscription is None:
            return
        parser_of(self._client).remove(self._subscription._id)
        try:
            await self._subscription.unsubscribe()
            await self._client.publish(f"{LOCAL_API}.CONSUMER.DELETE.{self._stream.name}.{self._name}")
        except (nats.errors.Error, OSError):
            pass  # the connection is gone, and the consumer goes with its interest

    def _deliver(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self._heard = True
        if self._fault is not None:
            return
        if not reply.startswith(b"$JS.ACK."):
            self._control(reply, headers)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<count>.<time>.<pending>; newer servers may put
        # <domain>.<account> before the stream.
        tokens = reply.split(b".")
        offset = 0 if len(tokens) == 9 else 2
        sequence, count, time_ns = number(tokens[offset + 5]), number(tokens[offset + 6]), number(tokens[offset + 7])
        high = self._high
        if count != self._count + 1 or sequence <= high:
            self._break(f"delivery {self._count + 1} after {high} is missing, got {count}, {sequence}")
            return
        if sequence != high + 1:
            self._holes.append((high, sequence))
            self._wake.set()
        self._count = count
        self._high = sequence
        entry = self._decode(self._stream.log.life, sequence, time_ns, subject.decode(errors="replace"), payload)
        batch = self._batch
        if entry is not None:
            batch.append(entry)
            self._batch_bytes += len(payload)
        if len(batch) >= _BATCH_EVENTS or self._batch_bytes >= _BATCH_BYTES:
            self._flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._flush_by = monotonic() + _BURST_SECONDS
            self._loop.call_soon(self._come_round)

    def _come_round(self) -> None:
        """Write the batch, unless it has grown so much since the last look that it will grow further."""
        taken, seen = len(self._batch), self._seen
        if taken - seen >= _BURST_EVENTS and monotonic() < self._flush_by:
            self._seen = taken
            if seen:
                self._loop.call_later(_BURST_PAUSE_SECONDS, self._come_round)
            else:
                self._loop.call_soon(self._come_round)
        else:
            self._flush_is_due = False
            self._flush()

    def _flush(self) -> None:
        if self._holes:
            return
        self._seen = self._batch_bytes = 0
        if self._high > self._stream.log.high:
            batch, self._batch = self._batch, []
            self._tally.feed_events += len(batch)
            self._stream.append(batch, self._high)

    def _control(self, reply: bytes, headers: bytes) -> None:
        """An idle heartbeat or a flow-control request; both are answered by `watch`."""
        told = read_control(reply, headers)
        if told.answers:
            self._answers.extend(told.answers)
            self._wake.set()
        if told.delivered is not None and told.delivered != self._count:
            self._break(f"{told.delivered} were delivered, {self._count} came")

    def _break(self, why: str) -> None:
        self._fault = self._fault or why
        self._wake.set()


async def _first_at(hub: Place, holes: Sequence[tuple[int, int]]) -> int | None:
    """The first event that the hub has in these holes of its mirror; None where it has deleted them too.

    Raises:
        one of `_FAILURES`: the hub, which answered a moment ago, does not say.
    """
    for start in range(0, len(holes), _ASKED_AT_ONCE):
        some = holes[start : start + _ASKED_AT_ONCE]
        asked = [hub.get({"seq": before + 1, "next_by_subj": ">", "batch": 1}) for before, _ in some]
        for (_, after), found in zip(some, await asyncio.gather(*asked), strict=True):
            if found.messages and found.messages[0].sequence < after:
                return found.messages[0].sequence
    return None
