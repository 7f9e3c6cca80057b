"""The sweep: snapshots of plans before their events age out, and an end for plans of which nothing is heard.

Every replica sweeps; two that do it at once write the same. A running plan's last event is always stored, since a plan
that is silent for so long that it could age out fails first.
"""

import asyncio
import random
from datetime import UTC, datetime, timedelta

from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Counter
from structlog.stdlib import BoundLogger

from contracts.errors import Refused
from services.chassis import jetstream
from services.chassis.aggregates import Cause, Target
from services.chassis.folds import UNTOLD
from services.chassis.streams import Streams
from services.chassis.tasks import is_wanted
from services.plans import domain
from services.plans.domain import Plan
from services.plans.ledger import AGGREGATE, Ledger
from services.plans.snapshots import PlanDirectory, last_of

_CONNECT_SECONDS = 5.0
_PAGE = 100_000


class Sweep:
    """One replica's."""

    def __init__(
        self,
        streams: Streams,
        ledger: Ledger,
        directory: PlanDirectory,
        *,
        every_seconds: float,
        idle_seconds: float,
        metrics: CollectorRegistry,
        log: BoundLogger,
    ) -> None:
        self._streams = streams
        self._ledger = ledger
        self._directory = directory
        self._every_seconds = every_seconds
        self._idle = timedelta(seconds=idle_seconds)
        self._log = log
        self._swept = Counter("a2a_plans_swept", "Plans that a sweep did something with.", ["what"], registry=metrics)

    async def run(self) -> None:
        """Sweep now and then, until cancelled; not all replicas at the same moment."""
        while is_wanted():
            await asyncio.sleep(self._every_seconds * random.uniform(0.8, 1))  # noqa: S311  # spread, not secret
            try:
                await self.once()
            except (Refused, *UNTOLD) as error:
                self._log.warning("sweep_failed", error=str(error) or type(error).__name__)

    async def once(self) -> None:
        """Every plan in the stream.

        Raises:
            Refused, nats.errors.Error, JetStreamError: NATS is away; what was not looked at is next time.
        """
        client = await self._streams.client(_CONNECT_SECONDS)
        if client is None:
            return
        offset, total = 0, 1
        while offset < total:
            info = await jetstream.request(client, "STREAM.INFO.PLANS", {"subjects_filter": "plan.>", "offset": offset})
            subjects = info["state"].get("subjects") or {}
            total = info.get("total", len(subjects))
            offset += max(len(subjects), _PAGE)
            epoch = jetstream.state_of(info).epoch
            for subject in subjects:
                await self._look(client, Target(AGGREGATE, subject), epoch)

    async def _look(self, client: Client, target: Target[Plan], epoch: str) -> None:
        try:
            answer = await jetstream.request(client, "STREAM.MSG.GET.PLANS", {"last_by_subj": target.subject})
        except jetstream.JetStreamError as error:
            if error.code != jetstream.NO_MESSAGE:
                raise
            return  # aged out since it was listed
        last, stored_at = answer["message"]["seq"], datetime.fromisoformat(answer["message"]["time"]).astimezone(UTC)
        if last_of(await self._directory.snapshot(client, target, epoch)) < last:
            await self._ledger.snapshot(target)
            self._swept.labels("snapshot").inc()
        now = self._ledger.now()
        if now - stored_at < self._idle:
            return
        told = f"Nothing was heard of it for {self._idle.total_seconds() / 3600:.0f} hours."
        change = await self._ledger.change(
            target,
            Cause(f"idle:{last}"),
            lambda plan: domain.fail(plan, code="expired", message=told, now=now),
        )
        if change.events:
            self._swept.labels("expired").inc()
