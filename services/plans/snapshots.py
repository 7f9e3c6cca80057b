"""Where plans are, and the snapshots that outlive their events (DESIGN decision 7).

PLANS forgets after seven days, so a plan's snapshot is no shortcut: it is written at the plan's end and daily while it
runs, acknowledged, and a plan that has one is never born again. Kept under `<owner>.<plan>`, so that an owner's plans
are listed by one filter without a leading wild-card.
"""

from dataclasses import replace
from typing import Any

import nats.errors
from nats.aio.client import Client
from pydantic import TypeAdapter, ValidationError

from contracts.events.plan_v1 import TaskState
from contracts.topology import BUCKET_SUBJECTS, PLAN_SNAPSHOTS
from services.chassis import jetstream
from services.chassis.aggregates import Aggregate, Target
from services.chassis.direct import newest_of
from services.chassis.directory import Directory, Note

_SECONDS = 2.0
_BUCKET = f"KV_{PLAN_SNAPSHOTS}"
_PREFIX = f"{BUCKET_SUBJECTS}.{PLAN_SNAPSHOTS}"
_NOTE = TypeAdapter(Note)


def key_of(subject: str) -> str:
    """The key of a plan's snapshot: what follows `plan.` in its subject."""
    return subject.partition(".")[2]


def last_of(note: Note | None) -> int:
    """The sequence up to which a snapshot holds; 0 where there is none."""
    return note.snapshot.last if note is not None and note.snapshot is not None else 0


def _is_over(note: Note) -> bool:
    state = note.snapshot.state if note.snapshot is not None else None
    try:
        return TaskState(state["status"]["state"]).is_terminal if isinstance(state, dict) else False
    except (KeyError, ValueError, TypeError):
        return False


class PlanDirectory(Directory):
    """As the market's, and beside it the bucket of snapshots."""

    async def find(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str, epoch: str) -> str | None:
        found = await super().find(client, aggregate, aggregate_id, epoch)
        if found is not None:
            return found
        # Its events have aged out: one key of the bucket ends with its id.
        stored = await newest_of(client, _BUCKET, f"{_PREFIX}.*.{aggregate_id}")
        return None if stored is None else f"plan.{stored.subject.removeprefix(f'{_PREFIX}.')}"

    async def snapshot(self, client: Client, target: Target[Any], epoch: str) -> Note | None:
        """The plan's latest snapshot; of a plan that is over also one of an earlier life of the stream."""
        subject = f"{_PREFIX}.{key_of(target.subject)}"
        answer = await client.request(f"$JS.API.DIRECT.GET.{_BUCKET}.{subject}", timeout=_SECONDS)
        if not answer.data or "Nats-Sequence" not in (answer.headers or {}):
            return None
        try:
            note = _NOTE.validate_json(answer.data)
        except ValidationError:
            self._log.error("snapshot_not_readable", subject=target.subject)
            return None
        if note.epoch == epoch:
            return note
        if not _is_over(note) or note.snapshot is None:
            return None
        # Sequences of another life say nothing in this one.
        return replace(note, first=0, snapshot=replace(note.snapshot, last=0, handled={}))

    async def note(self, client: Client, aggregate: Aggregate[Any], aggregate_id: str, note: Note) -> None:
        """Write the route as a cache, and the snapshot so that it is there; one that fails the sweep finds missing."""
        if note.snapshot is not None:
            subject = f"{_PREFIX}.{key_of(note.subject)}"
            try:
                answer = await client.request(subject, _NOTE.dump_json(note), timeout=_SECONDS)
                if b'"error"' in answer.data:
                    self._log.error("snapshot_not_stored", subject=note.subject, answer=answer.data.decode())
            except (nats.errors.Error, OSError) as error:
                self._log.warning("snapshot_not_stored", subject=note.subject, error=str(error))
        await super().note(client, aggregate, aggregate_id, replace(note, snapshot=None))


async def kept_subjects(client: Client, owner: str) -> list[str]:
    """The subjects of an owner's plans that have a snapshot; `*` is every owner."""
    body = {"subjects_filter": f"{_PREFIX}.{owner}.>"}
    info = await jetstream.request(client, f"STREAM.INFO.{_BUCKET}", body)
    return [f"plan.{one.removeprefix(f'{_PREFIX}.')}" for one in info["state"].get("subjects") or {}]
