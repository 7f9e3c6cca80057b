"""Requests over core NATS, `svc.plans.<op>`: token verified again, body judged, one answer each.

Their form is that of `contracts.planrequests`.

Every request is answered, whatever it says. At most so many are in hand at once; what comes beyond is told to come
again, so that a storm of requests costs its senders time and this process nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry, Counter, Histogram
from structlog.stdlib import BoundLogger

from contracts.errors import ErrorCode, Problem, Refused
from contracts.planrequests import (
    QUEUE,
    SUBJECTS,
    CancelPlan,
    GetPlan,
    ListPlans,
    PlanAnswer,
    PlanRequest,
    PlansAnswer,
    Refusal,
    StartPlan,
)
from contracts.principal import Principal
from contracts.wire import ErrorBody
from services.chassis.auth import TokenVerifier
from services.chassis.streams import NATS_ERRORS, Streams
from services.chassis.tasks import is_wanted
from services.chassis.traces import traceparent_of
from services.plans.store import Plans

_MOST_IN_HAND = 256
_PAUSE_SECONDS = 0.1
_DRAIN_SECONDS = 4.0
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BEARER = "bearer "

Answer = PlanAnswer | PlansAnswer
_encode = msgspec.json.Encoder().encode


class Requests:
    """Answers while it runs."""

    def __init__(
        self,
        streams: Streams,
        plans: Plans,
        verifier: TokenVerifier,
        metrics: CollectorRegistry,
        log: BoundLogger,
    ) -> None:
        self._streams = streams
        self._plans = plans
        self._verifier = verifier
        self._log = log
        # Requests in hand; each task is removed when it has answered.
        self._in_hand: set[asyncio.Task[None]] = set()
        self._client: Client | None = None
        self._seconds = Histogram("a2a_plans_request_seconds", "Requests.", ["op"], registry=metrics, buckets=_SECONDS)
        self._answers = Counter("a2a_plans_requests", "Requests.", ["op", "outcome"], registry=metrics)

    def failing(self) -> str | None:
        """Why nothing is answered, for `/readyz`."""
        return None if self._client is not None else "not yet listening for requests"

    async def run(self) -> None:
        """Answer until cancelled; what is in hand then is still answered."""
        client = await self._connected()
        subscriptions = []
        try:
            for kind, subject in SUBJECTS.items():
                subscriptions.append(await client.subscribe(subject, queue=QUEUE, cb=self._taker(kind, subject)))
            await client.flush()
            self._client = client
            # nats-py subscribes again by itself after a reconnect.
            await asyncio.Event().wait()
        finally:
            self._client = None
            for one in subscriptions:
                # Not `unsubscribe`: that drops what has arrived and was not looked at.
                with contextlib.suppress(*NATS_ERRORS, TimeoutError):
                    await asyncio.wait_for(one.drain(), _DRAIN_SECONDS)  # type: ignore[no-untyped-call]
            if self._in_hand:
                await asyncio.wait(self._in_hand, timeout=_DRAIN_SECONDS)
            for task in self._in_hand:
                task.cancel()

    async def _connected(self) -> Client:
        """The connection, once the streams are there and it is known which tokens are revoked: others may know it."""
        while is_wanted():
            client = await self._streams.client(_DRAIN_SECONDS)
            revoked = self._verifier.revocations
            is_known = revoked is None or revoked.is_current
            if client is not None and is_known and self._streams.streams_failing() is None:
                return client
            await asyncio.sleep(_PAUSE_SECONDS)
        raise asyncio.CancelledError

    def _taker(self, kind: type[PlanRequest], subject: str) -> Callable[[Msg], Awaitable[None]]:
        op = subject.rpartition(".")[2]

        async def take(message: Msg) -> None:
            if not message.reply:
                return  # nobody waits
            if len(self._in_hand) >= _MOST_IN_HAND:
                await self._reply(message, op, _refusal(Problem(ErrorCode.RATE_LIMITED, retry_after_ms=1000)))
                return
            task = asyncio.create_task(self._handle(message, kind, op))
            self._in_hand.add(task)
            task.add_done_callback(self._in_hand.discard)

        return take

    async def _handle(self, message: Msg, kind: type[PlanRequest], op: str) -> None:
        with self._seconds.labels(op).time():
            await self._reply(message, op, await self._answer(message, kind, op))

    async def _answer(self, message: Msg, kind: type[PlanRequest], op: str) -> Answer | Refusal:
        try:
            who = await self._principal(message)
            try:
                request = msgspec.json.decode(message.data, type=kind)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise Refused(Problem(ErrorCode.INVALID_MESSAGE, str(error))) from error
            return await self._asked(who, request, traceparent_of((message.headers or {}).get("traceparent")))
        except Refused as error:
            return _refusal(error.problem)
        except Exception as error:  # noqa: BLE001  # a bug here must not leave a request without its answer
            self._log.error("request_failed", op=op, exc_info=error)
            return _refusal(Problem(ErrorCode.INTERNAL))

    async def _principal(self, message: Msg) -> Principal:
        told = (message.headers or {}).get("Authorization", "")
        if not told.lower().startswith(_BEARER):
            raise Refused(Problem(ErrorCode.UNAUTHENTICATED))
        return await self._verifier.verify(told[len(_BEARER) :].strip())

    async def _asked(self, who: Principal, request: PlanRequest, traceparent: str | None) -> Answer:
        match request:
            case GetPlan():
                return await self._plans.get(who, request)
            case ListPlans():
                return await self._plans.list(who, request)
            case StartPlan():
                return await self._plans.start(who, request, traceparent)
            case CancelPlan():
                return await self._plans.cancel(who, request)

    async def _reply(self, message: Msg, op: str, answer: Answer | Refusal) -> None:
        payload = _encode(answer)
        outcome = answer.error.code if isinstance(answer, Refusal) else "ok"
        try:
            await message.respond(payload)
        except nats.errors.MaxPayloadError:
            outcome = ErrorCode.MESSAGE_TOO_LARGE.wire
            told = f"the answer has {len(payload)} bytes, more than NATS takes here; ask for less history"
            with contextlib.suppress(*NATS_ERRORS):
                await message.respond(_encode(_refusal(Problem(ErrorCode.MESSAGE_TOO_LARGE, told))))
        except NATS_ERRORS as error:
            outcome = "not_answered"
            self._log.warning("not_answered", op=op, error=str(error) or type(error).__name__)
        self._answers.labels(op, outcome).inc()


def _refusal(problem: Problem) -> Refusal:
    return Refusal(
        ErrorBody(problem.code.wire, problem.text, problem.may_retry, problem.retry_after_ms, problem.details)
    )
