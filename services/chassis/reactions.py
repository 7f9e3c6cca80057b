"""Reactions: what a service does of itself when an event is stored, by durable consumers through FastStream.

Law: a message is acknowledged only after its effects are stored, or it is among the dead letters with the reason.
Effects are the handler's, and idempotent: a message may come twice, and the second finds the first one's events.
Of each kind of aggregate a source has one message in hand at a time, so order is kept, over several replicas too; only
a source of timers takes many, since a timer is a message that is to come again when its moment has come.
"""

import asyncio
import contextlib
import importlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Counter, Gauge
from structlog.stdlib import BoundLogger

from contracts.contract import Event
from contracts.errors import Refused
from contracts.registry import REGISTRY, Registry
from services.chassis import jetstream
from services.chassis.deadletters import DeadLetter, bury
from services.chassis.streams import NATS_ERRORS, Streams
from services.chassis.tasks import is_wanted

if TYPE_CHECKING:
    from faststream.nats import NatsBroker, NatsMessage
    from faststream.nats.subscriber.usecases import LogicSubscriber

# A message whose service died comes again after this; while one is worked on the server is told so more often.
ACK_WAIT_SECONDS = 3.0
_IN_PROGRESS_SECONDS = 1.0
# How many timers may be pending. Beyond it timers are late by as long as it takes until others are done.
MOST_TIMERS = 65_536
# Of a timer's moment, so that a clock that was set, or a wrong one, costs no more than this.
_LONGEST_WAIT_SECONDS = 3600.0
_TIMERS_AT_ONCE = 64
# How often what looks like a bug is tried before the message is put aside.
_TRIES = 3
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_POLL_SECONDS = 2.0
_SURVEY_SECONDS = 2.0
_GRACEFUL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Later:
    """A handler's answer: nothing was to be done yet; come again at this moment."""

    at: datetime


Handler = Callable[[Event], Awaitable[Later | None]]


@dataclass(frozen=True)
class Source:
    """Events that are reacted to, and how: a durable consumer for each kind of aggregate among them."""

    # Of its consumers, together with the service's and the aggregate's.
    name: str
    # Event type -> reaction; what else has the same subjects is passed by.
    handlers: Mapping[str, Handler]
    # Whether handlers may answer `Later`; such a source keeps no order.
    timers: bool = False
    stream: str = "MARKET"

    def filters(self, registry: Registry) -> dict[str, str]:
        """Kind of aggregate -> the subjects of its events, whosever they are.

        Each is a consumer of its own: nats-server takes 2 ms to find the next message of several filters at once.
        An aggregate has one subject, so its order is kept.
        """
        found: dict[str, str] = {}
        for kind in self.handlers:
            contract = registry.newest(kind)
            if contract is None:
                raise ValueError(f"no contract is registered for {kind}")
            aggregate = contract.fixed["aggregate"]
            found[aggregate] = contract.layout.filter({"aggregate": aggregate})
        return found


class Poison(Exception):
    """A message that can never be handled; says why."""


class Stopped(Exception):
    """The service ends; the message is somebody else's."""


class Reactions:
    """All sources of one service."""

    def __init__(
        self,
        service: str,
        sources: Sequence[Source],
        streams: Streams,
        *,
        nats_url: str,
        metrics: CollectorRegistry,
        log: BoundLogger,
        registry: Registry = REGISTRY,
        domain: str = "",
    ) -> None:
        """`domain`: of the hub's JetStream, in a region; the consumers are there."""
        self._service = service
        self._sources = sources
        self._streams = streams
        self._nats_url = nats_url
        self._domain = domain
        self._registry = registry
        self._log = log
        self._outcomes = Counter(
            "a2a_reactions", "Messages, by what became of them.", ["service", "consumer", "outcome"], registry=metrics
        )
        self._lag = Gauge("a2a_reactions_lag", "Events not reacted to yet.", ["service", "consumer"], registry=metrics)
        self._timers = Gauge(
            "a2a_reactions_timers", "Timers that wait for their moment.", ["service", "consumer"], registry=metrics
        )
        # Set when the service ends: what is being tried again is given up.
        self._stopping = asyncio.Event()
        # Why events are not reacted to; None where they are.
        self._trouble: str | None = "not begun yet" if sources else None

    def leave(self) -> None:
        """The service is about to end: what is being tried again is given up, what is in hand is finished."""
        self._stopping.set()

    def failing(self) -> str | None:
        """Why events are not reacted to, for `/readyz`."""
        return self._trouble

    async def run(self) -> None:
        """React until cancelled; what is in hand is then finished, or left unacknowledged."""
        if not self._sources:
            return
        while is_wanted():
            try:
                await self._serve(await self._begin())
            except (jetstream.JetStreamError, nats.js.errors.Error, *NATS_ERRORS) as error:
                # NATS went away while subscriptions were made; later FastStream's own connection comes back by itself.
                self._trouble = f"cannot subscribe: {_told(error)}"
                self._log.warning("reactions_begin_again", error=_told(error))
                await asyncio.sleep(_FIRST_PAUSE_SECONDS)

    async def _serve(self, client: Client) -> None:
        """Subscribe and stay so."""
        # The consumers are there, so nothing is missed from now on, and the service is ready.
        self._trouble = None
        # Brought in meanwhile: a fifth of all that is imported, and no command needs it.
        await asyncio.to_thread(importlib.import_module, "faststream.nats")
        broker = self._broker()
        try:
            await broker.start()
            while is_wanted():
                await self._survey(client)
                await asyncio.sleep(_SURVEY_SECONDS)
        finally:
            if not is_wanted():
                self.leave()
            with contextlib.suppress(*NATS_ERRORS, TimeoutError):
                await asyncio.wait_for(broker.stop(), _GRACEFUL_SECONDS)

    async def _begin(self) -> Client:
        """Once the streams are there and the consumers are."""
        while is_wanted():
            client = await self._streams.client(_POLL_SECONDS)
            if client is not None and self._streams.streams_failing() is None:
                with contextlib.suppress(jetstream.JetStreamError, *NATS_ERRORS):
                    for source in self._sources:
                        for aggregate in source.filters(self._registry):
                            await self._ensure(client, source, aggregate)
                    return client
            await asyncio.sleep(_FIRST_PAUSE_SECONDS)
        raise asyncio.CancelledError

    def _durable(self, source: Source, aggregate: str) -> str:
        return f"{self._service}-{source.name}-{aggregate}"

    async def _ensure(self, client: Client, source: Source, aggregate: str) -> None:
        """Make the consumer, or bring it to what the source says; one that was deleted begins at the beginning."""
        durable = self._durable(source, aggregate)
        config = {
            "durable_name": durable,
            "filter_subject": source.filters(self._registry)[aggregate],
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_SECONDS * jetstream.NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": MOST_TIMERS if source.timers else 1,
        }
        await jetstream.request(
            client, f"CONSUMER.CREATE.{source.stream}.{durable}", {"stream_name": source.stream, "config": config}
        )

    async def _survey(self, client: Client) -> None:
        """Tell how far behind each source is; make again what was deleted."""
        try:
            for source in self._sources:
                found = [await self._look(client, source, aggregate) for aggregate in source.filters(self._registry)]
                waiting, in_hand = (sum(column) for column in zip(*found, strict=True))
                lag = waiting if source.timers else waiting + in_hand
                self._lag.labels(self._service, source.name).set(lag)
                if source.timers:
                    self._timers.labels(self._service, source.name).set(in_hand)
        except (jetstream.JetStreamError, *NATS_ERRORS) as error:
            self._trouble = f"JetStream does not answer: {str(error) or type(error).__name__}"
        else:
            self._trouble = None

    async def _look(self, client: Client, source: Source, aggregate: str) -> tuple[int, int]:
        """How many messages wait for a consumer, and how many were delivered and not acknowledged."""
        durable = self._durable(source, aggregate)
        try:
            info = await jetstream.request(client, f"CONSUMER.INFO.{source.stream}.{durable}")
        except jetstream.JetStreamError:
            self._log.warning("consumer_made_again", consumer=durable)
            await self._ensure(client, source, aggregate)
            return 0, 0
        return info["num_pending"], info["num_ack_pending"]

    # One message.

    def _broker(self) -> "NatsBroker":
        from faststream import AckPolicy  # noqa: PLC0415  # see `_serve`
        from faststream.nats import JStream, NatsBroker, PullSub  # noqa: PLC0415

        broker = NatsBroker(
            self._nats_url,
            name=f"{self._service}-reactions",
            logger=None,
            apply_types=False,
            graceful_timeout=_GRACEFUL_SECONDS,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated as int, slept as seconds
            error_cb=self._on_error,
            js_options={"domain": self._domain} if self._domain else None,
        )
        for source in self._sources:
            for aggregate, subject in source.filters(self._registry).items():
                subscriber: LogicSubscriber[Any] = broker.subscriber(
                    subject,
                    stream=JStream(source.stream, declare=False),
                    durable=self._durable(source, aggregate),
                    pull_sub=PullSub(batch_size=_TIMERS_AT_ONCE if source.timers else 1, timeout=_POLL_SECONDS),
                    ack_policy=AckPolicy.MANUAL,
                    no_reply=True,
                )
                subscriber(self._handler(source), decoder=_itself)
        return broker

    async def _on_error(self, error: Exception) -> None:
        self._log.warning("nats_error", error=str(error) or type(error).__name__)

    def _handler(self, source: Source) -> "Callable[[NatsMessage], Awaitable[None]]":
        async def handle(message: "NatsMessage") -> None:
            try:
                await self._handle(source, message)
            except Stopped:
                self._count(source, "given_back")

        return handle

    async def _handle(self, source: Source, message: "NatsMessage") -> None:
        telling = asyncio.create_task(_tell_in_progress(message))
        try:
            later = await self._react(source, message)
        finally:
            telling.cancel()
        if later is not None:
            wait = (later.at - datetime.now(UTC)).total_seconds()
            await message.nack(delay=min(max(wait, 0.01), _LONGEST_WAIT_SECONDS))
            return
        await message.ack()

    async def _react(self, source: Source, message: "NatsMessage") -> Later | None:
        """The reaction, tried until it is done or the message is among the dead letters."""
        pause, tries = _FIRST_PAUSE_SECONDS, 0
        while True:
            try:
                return await self._once(source, message)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever a handler fails with, the message must go somewhere
                if _is_transient(error):
                    self._count(source, "retried")
                    self._log.warning("reaction_retried", consumer=source.name, error=_told(error))
                else:
                    tries += 1
                    if tries >= _TRIES or isinstance(error, Poison):
                        await self._bury(source, message, error)
                        return None
            await self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _once(self, source: Source, message: "NatsMessage") -> Later | None:
        try:
            kind = json.loads(message.body).get("type")
        except (ValueError, AttributeError, RecursionError) as error:
            raise Poison(f"not a JSON object: {error}") from error
        handler = source.handlers.get(kind)
        if handler is None:
            return None
        event = self._read(message.body)
        later = await handler(event)
        if later is not None and not source.timers:
            raise Poison(f"{source.name} is no source of timers")
        self._count(source, "done" if later is None else "waits")
        return later

    def _read(self, payload: bytes) -> Event:
        try:
            return self._registry.read(json.loads(payload))
        except Exception as error:
            raise Poison(f"{type(error).__name__}: {error}") from error

    async def _bury(self, source: Source, message: "NatsMessage", error: Exception) -> None:
        """Put it aside; until that is stored it stays in hand."""
        raw = message.raw_message
        letter = DeadLetter(
            service=self._service,
            consumer=source.name,
            stream=source.stream,
            subject=raw.subject,
            sequence=raw.metadata.sequence.stream,
            reason=_told(error),
            payload=message.body,
        )
        self._log.error(
            "dead_letter", consumer=source.name, sequence=letter.sequence, subject=letter.subject, exc_info=error
        )
        pause = _FIRST_PAUSE_SECONDS
        while True:
            client = await self._streams.client(_POLL_SECONDS)
            if client is not None and await bury(client, letter):
                self._count(source, "dead")
                return
            await self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        if self._stopping.is_set():
            raise Stopped

    def _count(self, source: Source, outcome: str) -> None:
        self._outcomes.labels(self._service, source.name, outcome).inc()


async def _itself(message: "NatsMessage") -> "NatsMessage":
    """FastStream's decoder: a handler gets the message, and reads it itself."""
    return message


async def _tell_in_progress(message: "NatsMessage") -> None:
    """Keep the server from giving it to somebody else."""
    while True:
        await asyncio.sleep(_IN_PROGRESS_SECONDS)
        with contextlib.suppress(nats.errors.Error):
            await message.in_progress()


def _is_transient(error: Exception) -> bool:
    """Whether the same message can be handled later, without anybody mending anything here."""
    if isinstance(error, Refused):
        return error.problem.may_retry
    return isinstance(error, (*NATS_ERRORS, jetstream.JetStreamError, TimeoutError))


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
