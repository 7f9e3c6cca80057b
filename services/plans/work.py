"""The work: turns of plans, one message each in the stream PLAN_WORK, and one consumer that all replicas share.

A turn is noted before its plan is told of it, so a plan that was started is always somebody's work; a turn whose plan
never heard of it is dropped. A turn's executions are numbered by the message's sequence and delivery: later ones
higher. JetStream gives a turn to another replica when the one that had it says nothing for a lease.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.topology import DUPLICATE_WINDOW_SECONDS, PLAN_WORK
from services.chassis import jetstream
from services.chassis.deadletters import DeadLetter, bury
from services.chassis.jetstream import NANOSECONDS, JetStreamError

CONSUMER = "plans"
SUBJECT = "work.plans"
_DELIVERIES_A_TURN = 1000
"""Numbers that the executions of one turn have before those of the next message's."""
_ACK_SECONDS = 2.0
# Statuses of a request that was answered as it should be.
_TIMED_OUT, _NOTHING = "408", "404"
# Longer than a repetition would be taken for the same turn.
UNHEARD_SECONDS = DUPLICATE_WINDOW_SECONDS + 30.0


class ConsumerGone(Exception):
    """The consumer does not give; it is made again where it is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One turn in hand; itself and no other, also where the same turn comes twice."""

    owner: str
    plan_id: str
    # The number of its first execution, and of this one.
    first: int
    execution: int
    sequence: int
    noted_at: datetime
    message: Msg

    def is_of(self, execution: int) -> bool:
        """Whether a plan with this execution is in this turn."""
        return self.first <= execution < self.first + _DELIVERIES_A_TURN

    async def in_progress(self) -> None:
        """Keep it; one that is not heard is said again soon."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.message.in_progress()

    async def done(self) -> None:
        """It is over. Lost, it comes again, and is then found to be over."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.message.ack()

    async def give_back(self) -> None:
        """Another replica may have it at once."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.message.nak()

    async def bury(self, client: Client, reason: str) -> None:
        """Put it among the dead letters."""
        letter = DeadLetter("plans", "work", PLAN_WORK, SUBJECT, self.sequence, reason, self.message.data)
        await bury(client, letter)


async def note(client: Client, owner: str, plan_id: str, message_id: str) -> int:
    """Note a turn; the number of its first execution. The same message is one turn.

    Raises:
        JetStreamError, nats.errors.Error: it is not certain that it is noted.
    """
    payload = json.dumps({"owner": owner, "plan": plan_id}).encode()
    headers = {"Nats-Msg-Id": f"{owner}.{plan_id}:{message_id}", "Nats-Expected-Stream": PLAN_WORK}
    answer = json.loads((await client.request(SUBJECT, payload, timeout=_ACK_SECONDS, headers=headers)).data)
    error = answer.get("error")
    if error:
        raise JetStreamError(error.get("err_code", 0), error.get("description", "refused"))
    return int(answer["seq"]) * _DELIVERIES_A_TURN


class Work:
    """The shared consumer."""

    def __init__(self, client: Client, lease_seconds: float) -> None:
        self._client = client
        self._lease_seconds = lease_seconds

    async def declare(self) -> None:
        """Make the consumer, or make it as it is to be.

        Raises:
            JetStreamError, nats.errors.Error: it cannot be told to be there.
        """
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": int(self._lease_seconds * NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": -1,
            "deliver_policy": "all",
            "filter_subject": SUBJECT,
        }
        body = {"stream_name": PLAN_WORK, "config": config}
        await jetstream.request(self._client, f"CONSUMER.DURABLE.CREATE.{PLAN_WORK}.{CONSUMER}", body)

    async def take(self, most: int, seconds: float, begin: Callable[[Turn], None]) -> int:
        """Have up to so many turns given for so long, and `begin` each as it comes; how many there were.

        nats-py's `fetch` returns while its request still stands, and what comes after that is lost for a lease.

        Raises:
            nats.errors.Error: the consumer cannot be asked.
            ConsumerGone: there is no consumer, or it does not give.
        """
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        taken = 0

        async def receive(message: Msg) -> None:
            nonlocal taken
            status = (message.headers or {}).get("Status")
            if status is None:
                taken += 1
                begin(_turn(message))
            if (status is not None or taken == most) and not ended.done():
                ended.set_result(status or "")

        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox, cb=receive)
        query = json.dumps({"batch": most, "expires": int(seconds * NANOSECONDS)}).encode()
        try:
            await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{PLAN_WORK}.{CONSUMER}", query, reply=inbox)
            async with asyncio.timeout(seconds + _ACK_SECONDS):
                status = await ended
        except TimeoutError as error:
            raise ConsumerGone("no answer to a request for work") from error
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
        if status not in ("", _TIMED_OUT, _NOTHING):
            raise ConsumerGone(f"status {status} to a request for work")
        return taken


def _turn(message: Msg) -> Turn:
    told, about = json.loads(message.data), message.metadata
    first = about.sequence.stream * _DELIVERIES_A_TURN
    noted_at = about.timestamp.astimezone(UTC) if about.timestamp.tzinfo else about.timestamp.replace(tzinfo=UTC)
    return Turn(
        told["owner"],
        told["plan"],
        first,
        first + min(about.num_delivered, _DELIVERIES_A_TURN) - 1,
        about.sequence.stream,
        noted_at,
        message,
    )
