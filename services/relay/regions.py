"""The reconciler of a region: its mirrors of the hub's streams, and the consumers at the hub that feed them.

Takes one step after another until there is none left (`services.relay.steps`), reading before each what stands.
While the hub is out of reach nothing is touched: the mirrors serve what they have, and are kept from giving up.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import nats.errors
from nats.aio.client import Client

from contracts.topology import StreamSpec, mirror_consumer, mirror_deliver
from services.chassis.jetstream import (
    NANOSECONDS,
    JetStreamError,
    StreamMissing,
    StreamState,
    api_of,
    request,
    state_of,
)
from services.chassis.telemetry import logger
from services.relay.patience import reassure
from services.relay.regionreport import MirrorLook, RegionStreamReport
from services.relay.steps import Aim, ConsumerState, MirrorJudge, Retention, Seen, Step, is_level, next_step, wrong

_NO_CONSUMER = 10014
_NO_MESSAGE = 10037
_MOST_STEPS = 8
_HUB_SECONDS = 2.0
# What is told of a mirror that was deleted or wiped.
_LOST = "lost"
_MADE = (10058, 10148, 10013)  # a stream, a consumer of that name is there
_log = logger(__name__)


class _HubAway(Exception):
    """The hub did not answer a moment ago."""


@contextlib.contextmanager
def _found_made() -> Iterator[None]:
    """What another relay made between our look and our call is made; the next look judges it."""
    try:
        yield
    except JetStreamError as error:
        if error.code not in _MADE:
            raise


class RegionReconciler:
    """The mirrors of one region, through one connection to its own server."""

    def __init__(
        self,
        client: Client,
        specs: Sequence[StreamSpec],
        *,
        region: str,
        hub_domain: str,
        retention: Retention = Retention(),  # noqa: B008  # frozen
        allow_replace: bool = False,
        stall_seconds: float = 60.0,
    ) -> None:
        """`allow_replace`: delete a stream that is in a mirror's place and no mirror of the hub's."""
        self._client = client
        self._region = region
        # The JetStream domain of the region's server; None until it told.
        self._domain: str | None = None
        self._hub_api = api_of(hub_domain)
        self._allow_replace = allow_replace
        # Only what may be read from its middle may be kept in part.
        self._aims = [Aim(spec, region, self._hub_api, Retention() if spec.last_only else retention) for spec in specs]
        self._judges = {aim.spec.name: MirrorJudge(aim, stall_seconds) for aim in self._aims}
        # Mirrors that were there at some look: one that is not any more was lost.
        self._met: set[str] = set()
        # Mirrors that were made again and have not been seen equal to their stream since.
        self._unproved: set[str] = set()
        # Whether the hub did not answer in this round: then it is not asked again for each stream.
        self._is_away = False

    async def round(self) -> list[RegionStreamReport]:
        """Look at every mirror and put right what may be.

        Raises:
            nats.errors.Error: the region's own NATS does not answer.
        """
        self._is_away = False
        misnamed = await self._misnamed()
        if misnamed is not None:
            return [RegionStreamReport(aim.spec.name, wrong=[misnamed]) for aim in self._aims]
        return [await self._reconcile(aim) for aim in self._aims]

    async def _misnamed(self) -> str | None:
        """Why this relay is at the wrong site: two that bear one name would take each other's consumers away."""
        if self._domain is None:
            try:
                self._domain = (await self._local("INFO")).get("domain", "")
            except JetStreamError as error:
                return f"JetStream refused: {error}"
        if self._domain == self._region:
            return None
        served = self._domain or "none"
        return f"this server's JetStream domain is {served}, and A2A_REGION is {self._region}: nothing is touched"

    async def look(self) -> list[RegionStreamReport]:
        """As `round`, but changes nothing."""
        self._is_away = False
        return [await self._look(aim, RegionStreamReport(aim.spec.name)) for aim in self._aims]

    async def _reconcile(self, aim: Aim) -> RegionStreamReport:
        report = RegionStreamReport(aim.spec.name)
        try:
            for _ in range(_MOST_STEPS):
                seen = await self._see(aim, report)
                if seen is None:
                    await reassure(self._client, mirror_deliver(aim.region, aim.spec.name))
                    break
                if not await self._take_step(aim, seen, report):
                    break
            else:
                report.wrong.append("it is not yet as declared; the next look goes on")
        except JetStreamError as error:
            report.wrong.append(f"JetStream refused: {error}")
        return report

    async def _look(self, aim: Aim, report: RegionStreamReport) -> RegionStreamReport:
        try:
            seen = await self._see(aim, report)
        except JetStreamError as error:
            report.wrong.append(f"JetStream refused: {error}")
            return report
        if seen is None:
            return report
        reason = wrong(aim, seen)
        if reason is None and seen.mirror is None:
            reason = "the mirror is missing"
        fault = self._judges[aim.spec.name].judge(seen, time.monotonic())
        if reason is None and fault is not None:
            reason = fault.value
        drift = [*aim.drift(seen), *(aim.consumer_drift(seen.consumer) if seen.consumer is not None else ())]
        report.wrong += [reason] if reason is not None else [f"{name} differs" for name in drift]
        return report

    async def _take_step(self, aim: Aim, seen: Seen, report: RegionStreamReport) -> bool:
        """One step; whether there may be another."""
        name = aim.spec.name
        reason = wrong(aim, seen)
        if reason is not None:
            if not (self._allow_replace and seen.hub is not None and seen.mirror and not aim.is_ours(seen.mirror)):
                report.wrong.append(reason)
                return False
            _log.warning("stream_replaced", stream=name, held=seen.mirror.messages)
            await self._delete_mirror(aim, seen)
            return True
        if seen.mirror is not None:
            self._met.add(name)
        judge = self._judges[name]
        fault = judge.judge(seen, time.monotonic())
        step = next_step(aim, seen, fault)
        if step is Step.REST:
            self._prove(aim, seen)
            return False
        if step is Step.DELETE_MIRROR and fault is not None and seen.mirror is not None:
            report.repaired = fault.name.lower()
            _log.error("mirror_made_again", mirror=name, reason=fault.value, held=seen.mirror.messages)
        if step is Step.CREATE_MIRROR:
            judge.repaired(time.monotonic())
            self._unproved.add(name)
            if report.repaired is None and name in self._met:
                report.repaired = _LOST
                _log.error("mirror_made_again", mirror=name, reason="it was gone", held=0)
        await self._do(aim, seen, step)
        return True

    def _prove(self, aim: Aim, seen: Seen) -> None:
        """Tell once that a mirror that was made holds what the stream holds."""
        if aim.spec.name in self._unproved and is_level(seen) and seen.mirror is not None:
            self._unproved.discard(aim.spec.name)
            _log.info("mirror_proved", mirror=aim.spec.name, first=seen.mirror.first, messages=seen.mirror.messages)

    async def _do(self, aim: Aim, seen: Seen, step: Step) -> None:
        match step:
            case Step.DELETE_MIRROR:
                await self._delete_mirror(aim, seen)
            case Step.DELETE_CONSUMER:
                await self._delete_consumer(aim, seen)
            case Step.CREATE_CONSUMER:
                await self._create_consumer(aim)
            case Step.CREATE_MIRROR if seen.hub is not None:
                with _found_made():
                    await self._local(f"STREAM.CREATE.{aim.spec.name}", aim.mirror_config(seen.hub))
            case Step.UPDATE_CONSUMER if seen.consumer is not None:
                changes = aim.consumer_drift(seen.consumer)
                _log.warning("consumer_corrected", mirror=aim.spec.name, changed=sorted(changes))
                await self._put_consumer(aim, {**seen.consumer.config, **changes}, "update")
            case Step.UPDATE_MIRROR if seen.mirror is not None:
                changes = aim.drift(seen)
                _log.warning("mirror_corrected", mirror=aim.spec.name, changed=sorted(changes))
                await self._local(f"STREAM.UPDATE.{aim.spec.name}", {**seen.mirror.config, **changes})
            case Step.PURGE_MIRROR if seen.hub is not None:
                await self._local(f"STREAM.PURGE.{aim.spec.name}", {"seq": seen.hub.first})

    # What is read.

    async def _see(self, aim: Aim, report: RegionStreamReport) -> Seen | None:
        """What stands, put into the report; None where the hub is out of reach."""
        name = aim.spec.name
        report.look = None
        report.mirror = report.hub = None
        try:
            consumer = await self._consumer(aim)
            info = await self._mirror_info(aim)
            hub = await self._hub_state(name)
        except (_HubAway, nats.errors.TimeoutError, nats.errors.NoRespondersError):
            self._is_away = True
            self._judges[name].blind()
            info = await self._mirror_info(aim)
            report.is_linked = False
            self._put(report, info, None, None)
            return None
        report.is_linked = True
        mirror = state_of(info) if info is not None else None
        lag = gone = None
        if mirror is not None and hub is not None and aim.is_ours(mirror) and mirror.epoch == hub[0].epoch:
            lag = await self._age(hub[0], hub[1], mirror.last + 1) if mirror.last < hub[0].last else None
            gone = await self._age(hub[0], hub[1], mirror.first - 1) if mirror.first > hub[0].first else None
        report.hub = hub[0] if hub is not None else None
        self._put(report, info, consumer, lag)
        return Seen(
            hub=report.hub,
            consumer=consumer,
            mirror=mirror,
            mirror_bytes=info["state"]["bytes"] if info is not None else 0,
            mirror_created=info["created"] if info is not None else "",
            lag_seconds=lag,
            gone_seconds=gone,
        )

    @staticmethod
    def _put(
        report: RegionStreamReport, info: Mapping[str, Any] | None, consumer: ConsumerState | None, lag: float | None
    ) -> None:
        if info is None:
            return
        report.mirror = state_of(info)
        active = (info.get("mirror") or {}).get("active", -1)
        report.look = MirrorLook(
            lag_messages=max(0, report.hub.last - report.mirror.last) if lag is not None and report.hub else 0,
            lag_seconds=lag or 0.0,
            active_seconds=active / NANOSECONDS if active >= 0 else None,
            pending=consumer.pending if consumer is not None else None,
            size_bytes=info["state"]["bytes"],
        )

    async def _consumer(self, aim: Aim) -> ConsumerState | None:
        try:
            found = await self._hub(f"CONSUMER.INFO.{aim.spec.name}.{mirror_consumer(aim.region)}")
        except JetStreamError as error:
            if error.code == _NO_CONSUMER or isinstance(error, StreamMissing):
                return None
            raise
        return ConsumerState(
            created=found["created"],
            delivered=found["delivered"]["consumer_seq"],
            # Before the first it tells the sequence that it begins after.
            acknowledged=found["ack_floor"]["stream_seq"] if found["ack_floor"]["consumer_seq"] else 0,
            pending=found["num_pending"],
            config=found["config"],
        )

    async def _mirror_info(self, aim: Aim) -> dict[str, Any] | None:
        with contextlib.suppress(StreamMissing):
            return await self._local(f"STREAM.INFO.{aim.spec.name}")
        return None

    async def _hub_state(self, name: str) -> tuple[StreamState, str] | None:
        with contextlib.suppress(StreamMissing):
            info = await self._hub(f"STREAM.INFO.{name}")
            return state_of(info), info["ts"]
        return None

    async def _age(self, stream: StreamState, now: str, sequence: int) -> float | None:
        """Age of the event at `sequence`, or of the next one after it, by the hub's own clock."""
        try:
            found = await self._hub(f"STREAM.MSG.GET.{stream.name}", {"seq": sequence, "next_by_subj": ">"})
        except JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise
        made = datetime.fromisoformat(found["message"]["time"])
        return max(0.0, (datetime.fromisoformat(now) - made).total_seconds())

    # What is done; each looks once more at what it is about to delete.

    async def _delete_mirror(self, aim: Aim, seen: Seen) -> None:
        present = await self._mirror_info(aim)
        if present is not None and present["created"] == seen.mirror_created:
            with contextlib.suppress(StreamMissing):
                await self._local(f"STREAM.DELETE.{aim.spec.name}")

    async def _delete_consumer(self, aim: Aim, seen: Seen) -> None:
        if await self._mirror_info(aim) is not None:
            return  # another relay was faster
        present = await self._consumer(aim)
        if present is not None and seen.consumer is not None and present.created == seen.consumer.created:
            with contextlib.suppress(JetStreamError):
                await self._hub(f"CONSUMER.DELETE.{aim.spec.name}.{mirror_consumer(aim.region)}")

    async def _create_consumer(self, aim: Aim) -> None:
        start = None
        if aim.retention.max_age_seconds is not None:
            info = await self._hub(f"STREAM.INFO.{aim.spec.name}")
            begin = datetime.fromisoformat(info["ts"]) - timedelta(seconds=aim.retention.max_age_seconds)
            start = begin.isoformat()
        with _found_made():
            await self._put_consumer(aim, aim.consumer_config(start), "create")

    async def _put_consumer(self, aim: Aim, config: Mapping[str, Any], action: str) -> None:
        body = {"stream_name": aim.spec.name, "config": config, "action": action}
        await self._hub(f"CONSUMER.CREATE.{aim.spec.name}.{mirror_consumer(aim.region)}", body)

    async def _hub(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if self._is_away:
            raise _HubAway
        return await request(self._client, subject, body, seconds=_HUB_SECONDS, api=self._hub_api)

    async def _local(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return await request(self._client, subject, body)
