"""The next step that brings one mirror of a region nearer to its stream at the hub. Pure.

Decides from what was read, and from nothing else, so a relay that dies between two steps, or two that take them at
once, go on from what is there. A mirror that was wiped or deleted does not fill again through the durable consumer
it had, so both are made again, in this order: mirror away, consumer away, consumer, mirror. A mirror is deleted only
while the hub's stream is there to fill it again, and never where it may hold what the hub has lost.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from contracts.cursor import epoch_is_older
from contracts.topology import EPOCH, StreamSpec, mirror_consumer, mirror_deliver
from services.chassis.jetstream import NANOSECONDS, StreamState
from services.relay.mirror import Fault

HEARTBEAT_SECONDS = 1
# With JetStream's own 1000 a mirror that was cut off gets so many, and then waits two seconds for the rest.
_MOST_UNACKNOWLEDGED = 50_000
_LONGEST_PATIENCE_SECONDS = 3600.0
# Trimming is seen a while after it was due, and by whole blocks of a file.
_TRIM_SLACK_SECONDS = 60.0
_TRIM_FILL = 0.75


class Step(Enum):
    """What is to be done now; `REST` where nothing is."""

    REST = "rest"
    DELETE_MIRROR = "delete the mirror"
    DELETE_CONSUMER = "delete the consumer"
    CREATE_CONSUMER = "create the consumer"
    CREATE_MIRROR = "create the mirror"
    UPDATE_CONSUMER = "update the consumer"
    UPDATE_MIRROR = "update the mirror"
    PURGE_MIRROR = "purge from the mirror what the stream has let go"


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a region keeps of a stream; `None`: as much as the hub."""

    max_age_seconds: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """The durable consumer at the hub through which a mirror is fed."""

    created: str
    # How many events it delivered, and the sequence up to which the mirror acknowledged them; 0 before the first.
    delivered: int
    acknowledged: int
    # Events that it has not delivered yet: the region's lag as the hub sees it.
    pending: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read in one round, in this order: the consumer, the mirror, the hub's stream."""

    # None where the hub has no such stream.
    hub: StreamState | None
    consumer: ConsumerState | None = None
    mirror: StreamState | None = None
    mirror_bytes: int = 0
    mirror_created: str = ""
    # Age of the oldest event that the mirror lacks at its end; None where it lacks none.
    lag_seconds: float | None = None
    # Age of the last event before the mirror's first that the hub still has; None where it has none.
    gone_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """What one mirror is to be: of which stream, in which region, behind which hub, and how much it keeps."""

    spec: StreamSpec
    region: str
    hub_api: str
    retention: Retention = Retention()

    def consumer_config(self, start_time: str | None = None) -> dict[str, Any]:
        """The durable consumer; from `start_time` where older events are not to be sent."""
        begin = {"deliver_policy": "by_start_time", "opt_start_time": start_time} if start_time else {}
        return {
            "name": mirror_consumer(self.region),
            "durable_name": mirror_consumer(self.region),
            "deliver_policy": "all",
            "deliver_subject": mirror_deliver(self.region, self.spec.name),
            "ack_policy": "flow_control",
            "flow_control": True,
            "idle_heartbeat": HEARTBEAT_SECONDS * NANOSECONDS,
            "max_ack_pending": _MOST_UNACKNOWLEDGED,
            **begin,
        }

    def mirror_config(self, hub: StreamState) -> dict[str, Any]:
        """The mirror of `hub`, bearing its name and its epoch."""
        ages = [age for age in (hub.config["max_age"], self._max_age) if age]
        return {
            "name": self.spec.name,
            "mirror": {
                "name": self.spec.name,
                "external": {"api": self.hub_api},
                "consumer": {
                    "name": mirror_consumer(self.region),
                    "deliver_subject": mirror_deliver(self.region, self.spec.name),
                },
            },
            "storage": "file",
            "discard": "old",  # with "new" a full mirror would stop for ever
            "max_age": min(ages, default=0),
            "max_bytes": self.retention.max_bytes or -1,
            "max_msgs_per_subject": hub.config.get("max_msgs_per_subject", -1),
            "allow_msg_ttl": hub.config.get("allow_msg_ttl", False),
            "allow_direct": True,
            "num_replicas": self.spec.replicas,
            "metadata": {EPOCH: hub.epoch},
        }

    @property
    def _max_age(self) -> int:
        return (self.retention.max_age_seconds or 0) * NANOSECONDS

    def is_ours(self, mirror: StreamState) -> bool:
        """Whether it is a copy of the hub's stream at all; what is not is never deleted unless that was allowed."""
        source = mirror.config.get("mirror") or {}
        return source.get("name") == self.spec.name and (source.get("external") or {}).get("api") == self.hub_api

    def is_fed_rightly(self, mirror: StreamState) -> bool:
        """Whether it is a copy of the whole stream through our consumer; no update changes that."""
        source, wanted = mirror.config["mirror"], self.mirror_config(mirror)["mirror"]
        strange = set(source) - set(wanted)
        return not strange and source.get("consumer") == wanted["consumer"] and mirror.config["storage"] == "file"

    def is_consumer_right(self, consumer: ConsumerState) -> bool:
        """Whether it delivers every event, to the mirror."""
        wanted, now = self.consumer_config(), consumer.config
        same = all(now.get(name) == wanted[name] for name in ("deliver_subject", "ack_policy"))
        return same and not now.get("filter_subject") and not now.get("filter_subjects")

    def consumer_drift(self, consumer: ConsumerState) -> dict[str, Any]:
        """The settings of the consumer that an update corrects while it delivers."""
        wanted = {"max_ack_pending": _MOST_UNACKNOWLEDGED}
        return {name: value for name, value in wanted.items() if consumer.config.get(name) != value}

    def drift(self, seen: Seen) -> dict[str, Any]:
        """The settings of the mirror that an update brings to what they are to be."""
        if seen.mirror is None or seen.hub is None:
            return {}
        now, wanted = seen.mirror.config, self.mirror_config(seen.hub)
        # JetStream changes no mirror's source, and an epoch is never given to data that was there before.
        fixed = ("mirror", "storage", "metadata", "name")
        missing: dict[str, Any] = {"allow_msg_ttl": False}
        return {
            name: value
            for name, value in wanted.items()
            if name not in fixed and now.get(name, missing.get(name)) != value
        }

    def was_trimmed(self, seen: Seen) -> bool:
        """Whether what is let go by age or by the region's own size explains why the mirror begins after the stream.

        By age too where it is the stream's: the hub lets go by its clock, and the region by its own.
        """
        if seen.gone_seconds is None or seen.hub is None:
            return False
        age, size = self.mirror_config(seen.hub)["max_age"] / NANOSECONDS, self.retention.max_bytes
        by_age = age > 0 and seen.gone_seconds >= age - _TRIM_SLACK_SECONDS
        return by_age or (size is not None and seen.mirror_bytes >= _TRIM_FILL * size)


def wrong(aim: Aim, seen: Seen) -> str | None:
    """Why nothing may be done though the mirror is not what it should be; told to people, who decide."""
    name, mirror = aim.spec.name, seen.mirror
    if mirror is not None and not aim.is_ours(mirror):
        return (
            f"the region has a stream {name} that is no mirror of the hub's; it is left alone: remove it, or let the "
            "relay put a mirror in its place with --allow-replace"
        )
    if seen.hub is None:
        return f"the hub has no stream {name}" + ("; the mirror is kept" if mirror is not None else "")
    if mirror is None or _bears_other_life(mirror, seen.hub):
        if mirror is not None and epoch_is_older(seen.hub.epoch, mirror.epoch):
            return (
                f"the hub's stream is of an older life than the mirror, as after a restore from a backup; the mirror "
                f"is kept: at the hub, let the stream declare a new epoch (--new-epoch {name})"
            )
        return None
    if mirror.last > seen.hub.last:
        return (
            f"the mirror goes on to {mirror.last}, beyond the hub's end at {seen.hub.last}: the hub has lost events; "
            f"the mirror is kept: at the hub, let the stream declare a new epoch (--new-epoch {name})"
        )
    return None


def next_step(aim: Aim, seen: Seen, fault: Fault | None) -> Step:
    """What to do now about a mirror that `wrong` has nothing to say of; `fault` is the judge's."""
    if seen.hub is None:
        return Step.REST
    if seen.mirror is None:
        return _to_begin(aim, seen.consumer)
    if fault is not None:
        return Step.DELETE_MIRROR
    if seen.consumer is not None and aim.consumer_drift(seen.consumer):
        return Step.UPDATE_CONSUMER
    if aim.drift(seen):
        return Step.UPDATE_MIRROR
    if seen.mirror.messages and seen.mirror.first < seen.hub.first <= seen.mirror.last + 1:
        return Step.PURGE_MIRROR
    return Step.REST


def _to_begin(aim: Aim, consumer: ConsumerState | None) -> Step:
    if consumer is None:
        return Step.CREATE_CONSUMER
    is_unused = not consumer.delivered and aim.is_consumer_right(consumer)
    return Step.CREATE_MIRROR if is_unused else Step.DELETE_CONSUMER


def _bears_other_life(mirror: StreamState, hub: StreamState) -> bool:
    return mirror.epoch != hub.epoch


class MirrorJudge:
    """Remembers, of one mirror of a region, what has to be seen twice, and how often it was made again in vain."""

    def __init__(self, aim: Aim, stall_seconds: float) -> None:
        self._aim = aim
        self._first_patience = stall_seconds
        # How long a mirror may stand still, or be in doubt after it was made again; doubles with each time in a row.
        self._patience = stall_seconds
        # Until when doubts are not acted on; the mirror was made again a moment ago.
        self._rests_until = -math.inf
        # What was doubtful at the last look: the bounds and counts in which it showed.
        self._doubt: tuple[Fault, tuple[int, ...]] | None = None
        # The mirror's last sequence and when it was first seen there, while it lacks events.
        self._stuck: tuple[int, float] | None = None

    def blind(self) -> None:
        """The hub was out of reach: what was seen before the cut says nothing after it."""
        self._doubt = self._stuck = None

    def repaired(self, now: float) -> None:
        """The mirror was made again."""
        self.blind()
        self._rests_until = now + self._patience
        self._patience = min(2 * self._patience, _LONGEST_PATIENCE_SECONDS)

    def judge(self, seen: Seen, now: float) -> Fault | None:
        """Why the mirror is to be made again; `now` in seconds of any clock that does not go back."""
        if seen.mirror is None or seen.hub is None or not self._aim.is_ours(seen.mirror):
            self.blind()
            return None
        certain = self._certain(seen.mirror, seen.hub, seen.consumer)
        if certain is not None:
            return certain
        doubt, stalled = self._doubtful(seen.mirror, seen.hub, seen), self._stalled(seen.mirror, seen.lag_seconds, now)
        if is_level(seen) and doubt is None:
            self._patience = self._first_patience
        return (doubt or stalled) if now >= self._rests_until else None

    def _certain(self, mirror: StreamState, hub: StreamState, consumer: ConsumerState | None) -> Fault | None:
        if not self._aim.is_fed_rightly(mirror):
            return Fault.NOT_WHOLE
        if _bears_other_life(mirror, hub):
            return Fault.OTHER_LIFE
        if consumer is None or not self._aim.is_consumer_right(consumer):
            return Fault.NOT_FED
        # It acknowledged, read before, what it does not have, read after: its server lost what it had stored.
        return Fault.LOST_END if consumer.acknowledged > mirror.last else None

    def _doubtful(self, mirror: StreamState, hub: StreamState, seen: Seen) -> Fault | None:
        """A fault that shows twice in the same figures."""
        was, self._doubt = self._doubt, None
        holes, hub_holes = _holes(mirror), _holes(hub)
        figures = (mirror.first, mirror.messages, mirror.last, hub.first)
        if mirror.first > hub.first and mirror.first - 1 <= hub.last and not self._aim.was_trimmed(seen):
            self._doubt = (Fault.LOST_START, (mirror.first, hub.first))
        elif (mirror.first, mirror.last) == (hub.first, hub.last) and mirror.messages != hub.messages:
            self._doubt = (Fault.OTHER_CONTENT, figures)
        elif not self._aim.spec.last_only and holes > hub_holes:
            self._doubt = (Fault.OTHER_CONTENT, (mirror.first, holes))
        return self._doubt[0] if self._doubt is not None and self._doubt == was else None

    def _stalled(self, mirror: StreamState, lag_seconds: float | None, now: float) -> Fault | None:
        if lag_seconds is None:
            self._stuck = None
            return None
        if self._stuck is None or self._stuck[0] != mirror.last:
            self._stuck = (mirror.last, now)
        return Fault.STALLED if now - self._stuck[1] >= self._patience else None


def is_level(seen: Seen) -> bool:
    """Whether the mirror holds what the stream holds, by count and bounds; where it keeps less, from its start on."""
    if seen.hub is None or seen.mirror is None:
        return False
    hub, mirror = seen.hub, seen.mirror
    if mirror.first == hub.first:
        return (mirror.last, mirror.messages) == (hub.last, hub.messages)
    return mirror.last == hub.last and mirror.first > hub.first and _holes(mirror) <= _holes(hub)


def _holes(stream: StreamState) -> int:
    return stream.last - stream.first + 1 - stream.messages
