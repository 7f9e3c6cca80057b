"""The reconciler: one round brings each stream and its replay mirror to what the topology says.

Creates what is missing, corrects by update, makes a wrong mirror again. Never deletes a stream, never
shrinks what one keeps unless that was allowed, and never makes a missing source of truth anew while its
mirror still holds events: that copy is then the last. Rounds of two relays may overlap: each step reads
what stands before it acts, and a step that somebody else has done is done.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nats.aio.client import Client

from contracts.topology import StreamSpec
from services.chassis.jetstream import (
    NO_STORAGE,
    JetStreamError,
    NoRoom,
    StreamMissing,
    StreamState,
    ensure_one,
    mirror_config,
    no_room,
    put_mirror,
    request,
    state,
    state_of,
)
from services.chassis.telemetry import logger
from services.relay.drift import stream_drift
from services.relay.mirror import Judge, Look, bears_epoch, is_ours, look_at
from services.relay.report import MirrorReport, StreamReport

_NO_MESSAGE = 10037
_log = logger(__name__)


class Reconciler:
    """The streams of one site, through one connection; remembers what has to be seen twice."""

    def __init__(
        self,
        client: Client,
        specs: Sequence[StreamSpec],
        *,
        allow_shrink: bool = False,
        stall_seconds: float = 60.0,
    ) -> None:
        self._client = client
        self._specs = specs
        self._allow_shrink = allow_shrink
        self._judges = {spec.name: Judge(stall_seconds) for spec in specs}

    async def round(self) -> list[StreamReport]:
        """Look at every stream and put right what may be.

        Raises:
            nats.errors.Error: NATS does not answer.
        """
        return [await self._reconcile(spec) for spec in self._specs]

    async def look(self) -> list[StreamReport]:
        """As `round`, but changes nothing."""
        reports = []
        for spec in self._specs:
            report = StreamReport(spec.name)
            with contextlib.suppress(StreamMissing):
                await self._read(spec, report)
            if report.stream is not None:
                drift = stream_drift(spec, report.stream)
                report.kept += drift.kept
                report.wrong += [*(f"{name} differs from the topology" for name in drift.changes), *drift.wrong]
            reports.append(report)
        return reports

    async def _reconcile(self, spec: StreamSpec) -> StreamReport:
        report = StreamReport(spec.name)
        try:
            await self._stream(spec, report)
            await self._mirror(spec, report)
        except NoRoom as error:
            report.no_room = True
            report.wrong.append(str(error))
        except JetStreamError as error:
            report.wrong.append(f"JetStream refused: {error}")
        return report

    async def _stream(self, spec: StreamSpec, report: StreamReport) -> None:
        held = await self._last_copy(spec)
        if held and not self._allow_shrink:
            report.wrong.append(
                f"the stream is gone and {spec.replay_mirror} still holds {held} of its events: restore it from there, "
                "or let it begin empty with --allow-shrink"
            )
            return
        report.stream = await ensure_one(self._client, spec)
        drift = stream_drift(spec, report.stream, allow_shrink=self._allow_shrink)
        report.kept += drift.kept
        report.wrong += drift.wrong
        if drift.changes:
            await self._update(spec, drift.changes, report)

    async def _last_copy(self, spec: StreamSpec) -> int:
        """How many events a mirror holds whose stream is missing, where that stream is never to forget."""
        if spec.discard != "new" or not spec.mirrored:
            return 0
        try:
            await state(self._client, spec.name)
        except StreamMissing:
            mirror = await self._mirror_info(spec)
            return state_of(mirror).messages if mirror is not None and is_ours(spec, mirror) else 0
        return 0

    async def _update(self, spec: StreamSpec, changes: Mapping[str, Any], report: StreamReport) -> None:
        """Apply all changes at once; where that is refused one by one, so that one does not hold up the others."""
        with contextlib.suppress(JetStreamError):
            await self._apply(spec, changes, report)
            return
        for name, value in changes.items():
            try:
                await self._apply(spec, {name: value}, report)
            except JetStreamError as error:
                short = error.code == NO_STORAGE and name == "max_bytes"
                why = str(await no_room(self._client, spec)) if short else f"JetStream refused: {error}"
                report.wrong.append(f"{name} cannot be {value}: {why}")

    async def _apply(self, spec: StreamSpec, changes: Mapping[str, Any], report: StreamReport) -> None:
        config = (await state(self._client, spec.name)).config
        report.stream = state_of(await request(self._client, f"STREAM.UPDATE.{spec.name}", {**config, **changes}))
        report.corrected += changes
        _log.warning("stream_corrected", stream=spec.name, changed=sorted(changes))

    async def _mirror(self, spec: StreamSpec, report: StreamReport) -> None:
        if report.stream is None:
            return
        look = await self._read(spec, report)
        if not spec.mirrored:
            return
        if look is None:
            report.wrong.append(f"{spec.replay_mirror} is not a mirror of {spec.name}; it is left alone")
            return
        judge = self._judges[spec.name]
        fault = judge.judge(look, time.monotonic())
        if fault is None:
            await self._correct_mirror(spec, look, report)
            return
        _log.error("mirror_made_again", mirror=spec.replay_mirror, reason=fault.value, held=look.mirror.messages)
        if await self._make_again(spec, look):
            judge.repaired()
            report.repaired = fault.name.lower()
        await self._read(spec, report)

    async def _read(self, spec: StreamSpec, report: StreamReport) -> Look | None:
        """The stream and its mirror, put into the report; None where what bears the mirror's name is none."""
        mirror = await self._mirror_info(spec) if spec.mirrored else None
        info = await request(self._client, f"STREAM.INFO.{spec.name}")
        report.stream, report.size_bytes = state_of(info), info["state"]["bytes"]
        if mirror is None or not is_ours(spec, mirror):
            return None
        look = look_at(mirror, report.stream, await self._lag_seconds(report.stream, state_of(mirror), info["ts"]))
        report.mirror = MirrorReport(spec.replay_mirror, look.lag_messages, look.lag_seconds or 0.0)
        return look

    async def _mirror_info(self, spec: StreamSpec) -> dict[str, Any] | None:
        with contextlib.suppress(StreamMissing):
            return await request(self._client, f"STREAM.INFO.{spec.replay_mirror}")
        return None

    async def _lag_seconds(self, stream: StreamState, mirror: StreamState, now: str) -> float | None:
        """Age of the oldest event that the mirror lacks, by the server's own clock."""
        if mirror.last >= stream.last or not stream.messages:
            return None
        wanted = {"seq": mirror.last + 1, "next_by_subj": ">"}
        try:
            found = await request(self._client, f"STREAM.MSG.GET.{stream.name}", wanted)
        except JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return None  # what lies beyond the mirror's end has been deleted
            raise
        return max(
            0.0, (datetime.fromisoformat(now) - datetime.fromisoformat(found["message"]["time"])).total_seconds()
        )

    async def _correct_mirror(self, spec: StreamSpec, look: Look, report: StreamReport) -> None:
        """Bring the settings of a mirror that is right in its content to what it would be made with now."""
        now, wanted = look.mirror.config, {**mirror_config(spec, look.stream), "mirror_direct": False}
        wanted["metadata"] = now.get("metadata", {}) | (wanted["metadata"] if not bears_epoch(look) else {})
        wanted.pop("persist_mode", None)  # as it was made: JetStream changes it no more
        wanted |= {"max_bytes": -1, "max_msgs": -1, "max_msgs_per_subject": -1, "retention": "limits"}
        changed = [name for name, value in wanted.items() if now.get(name) != value]
        if changed:
            config = {**now, **wanted}
            await put_mirror(self._client, spec, config, exists=True)
            report.corrected += [f"mirror {name}" for name in changed]
            _log.warning("mirror_corrected", mirror=spec.replay_mirror, changed=changed)
        if look.mirror.messages and look.mirror.first < look.stream.first <= look.mirror.last + 1:
            # What the stream has let go (purged, aged, erased) is not to live on in its copy.
            await request(self._client, f"STREAM.PURGE.{spec.replay_mirror}", {"seq": look.stream.first})

    async def _make_again(self, spec: StreamSpec, judged: Look) -> bool:
        """Delete and create the mirror, unless it no longer is the one that was judged."""
        present = await self._mirror_info(spec)
        if present is not None:
            if present["created"] != judged.mirror_info["created"]:
                return False
            with contextlib.suppress(StreamMissing):
                await request(self._client, f"STREAM.DELETE.{spec.replay_mirror}")
        await put_mirror(self._client, spec, mirror_config(spec, await state(self._client, spec.name)))
        return True
