"""Steps of a region's relay: from any state it comes to rest with a fed mirror, and deletes nothing it may not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.topology import EPOCH, STREAMS
from services.chassis.jetstream import StreamState
from services.relay.mirror import Fault
from services.relay.steps import Aim, ConsumerState, MirrorJudge, Retention, Seen, Step, is_level, next_step, wrong

OLD, NOW, NEW = "0mi7c3k90", "0mi7c3k91", "0mi7c3k92"
AIM = Aim(STREAMS[0], "eu", "$JS.hub.API")


def stream(epoch: str = NOW, first: int = 1, last: int = 10, holes: int = 0, **config: Any) -> StreamState:
    settings = {"max_age": 0, "storage": "file", "metadata": {EPOCH: epoch}, **config}
    return StreamState("MARKET", epoch, first, last, last - first + 1 - holes, 1, settings)


def mirror(epoch: str = NOW, first: int = 1, last: int = 10, holes: int = 0, **config: Any) -> StreamState:
    return stream(epoch, first, last, holes, **{**AIM.mirror_config(stream(epoch)), **config})


def consumer(delivered: int = 10, acknowledged: int = 0, **config: Any) -> ConsumerState:
    return ConsumerState("then", delivered, acknowledged, 0, {**AIM.consumer_config(), **config})


FOREIGN = mirror(mirror=None)
HUBS = st.sampled_from([None, stream(), stream(NEW), stream(OLD), stream(first=5), stream(last=4)])
CONSUMERS = st.sampled_from(
    [
        *(None, consumer(0), consumer(), consumer(acknowledged=12)),
        *(consumer(deliver_subject="x"), consumer(max_ack_pending=1000), consumer(0, max_ack_pending=1000)),
    ]
)
UNFED = mirror(mirror={"name": "MARKET", "external": {"api": "$JS.hub.API"}})
MIRRORS = st.sampled_from(
    [
        *(None, FOREIGN, UNFED, mirror(), mirror(NEW), mirror(last=7)),
        *(mirror(first=3), mirror(holes=2), mirror(max_bytes=5)),
    ]
)


@dataclass
class Site:
    """A model of a hub and a region: what each step does there; a fed mirror is then filled."""

    seen: Seen
    deleted: int = 0

    def take(self, step: Step) -> None:
        seen = self.seen
        assert seen.hub is not None
        match step:
            case Step.DELETE_MIRROR:
                self.deleted += 1
                self.seen = replace(seen, mirror=None)
            case Step.DELETE_CONSUMER:
                self.seen = replace(seen, consumer=None)
            case Step.CREATE_CONSUMER:
                self.seen = replace(seen, consumer=consumer(0))
            case Step.UPDATE_CONSUMER:
                assert seen.consumer is not None
                config = {**seen.consumer.config, **AIM.consumer_drift(seen.consumer)}
                self.seen = replace(seen, consumer=replace(seen.consumer, config=config))
            case Step.CREATE_MIRROR:
                filled = mirror(seen.hub.epoch, seen.hub.first, seen.hub.last)
                self.seen = replace(seen, mirror=filled, consumer=replace(seen.consumer, delivered=10))  # type: ignore[type-var]
            case Step.UPDATE_MIRROR:
                assert seen.mirror is not None
                config = {**seen.mirror.config, **AIM.drift(seen)}
                self.seen = replace(seen, mirror=replace(seen.mirror, config=config))
            case Step.PURGE_MIRROR:
                assert seen.mirror is not None
                self.seen = replace(seen, mirror=mirror(seen.mirror.epoch, seen.hub.first, seen.mirror.last))


def run(site: Site, judge: MirrorJudge, most: int = 60) -> str | None:
    """Rounds until nothing is left to do; what is wrong, if anything. A fed mirror that is only behind catches up."""
    now = 0.0
    for _ in range(most):
        now += 100
        reason = wrong(AIM, site.seen)
        if reason is not None:
            return reason
        step = next_step(AIM, site.seen, judge.judge(site.seen, now))
        if step is Step.CREATE_MIRROR:
            judge.repaired(now)
        if step is Step.REST and is_level(site.seen):
            return None
        if step is Step.REST:
            hub, kept = site.seen.hub, site.seen.mirror
            assert hub is not None
            assert kept is not None
            if kept.last < hub.last:
                kept = replace(kept, last=hub.last, messages=kept.messages + hub.last - kept.last)
                site.seen = replace(site.seen, mirror=kept)
        else:
            site.take(step)
    raise AssertionError(f"never at rest: {site.seen}")


@given(HUBS, CONSUMERS, MIRRORS)
def test_any_state_converges_or_is_told(
    hub: StreamState | None, fed: ConsumerState | None, kept: StreamState | None
) -> None:
    site = Site(Seen(hub=hub, consumer=fed if hub is not None else None, mirror=kept))
    reason = run(site, MirrorJudge(AIM, 60))
    if reason is None:
        assert site.seen.hub is not None
        assert site.seen.mirror is not None
        assert is_level(site.seen)
        assert site.seen.mirror.epoch == site.seen.hub.epoch
        assert site.seen.consumer is not None
        assert not AIM.consumer_drift(site.seen.consumer)
        assert not AIM.drift(site.seen)
    else:
        assert site.seen.mirror is kept, "what is told is left as it is"
        assert site.deleted == 0


@given(HUBS, CONSUMERS)
def test_what_is_no_mirror_of_the_hubs_is_never_deleted(hub: StreamState | None, fed: ConsumerState | None) -> None:
    assert wrong(AIM, Seen(hub=hub, consumer=fed, mirror=FOREIGN)) is not None
    assert MirrorJudge(AIM, 60).judge(Seen(hub=hub, consumer=fed, mirror=FOREIGN), 0) is None


@given(MIRRORS)
def test_without_a_stream_at_the_hub_nothing_is_done(kept: StreamState | None) -> None:
    seen = Seen(hub=None, mirror=kept)
    assert next_step(AIM, seen, MirrorJudge(AIM, 60).judge(seen, 0)) is Step.REST
    assert wrong(AIM, seen) is not None


@pytest.mark.parametrize("kept", [mirror(last=12), mirror(NEW)], ids=["beyond the end", "of a later life"])
def test_a_mirror_that_may_hold_what_the_hub_lost_is_kept_and_told(kept: StreamState) -> None:
    assert "--new-epoch MARKET" in (wrong(AIM, Seen(hub=stream(), consumer=consumer(), mirror=kept)) or "")


def test_doubts_are_acted_on_when_they_are_seen_twice_alike() -> None:
    judge = MirrorJudge(AIM, 60)
    lacking = Seen(hub=stream(), consumer=consumer(), mirror=mirror(first=4))
    assert judge.judge(lacking, 0) is None
    assert judge.judge(lacking, 1) is Fault.LOST_START
    judge.repaired(1)
    assert [judge.judge(lacking, now) for now in (2, 3, 60)] == [None, None, None], "it has just been made"
    assert judge.judge(lacking, 62) is Fault.LOST_START


def test_a_cut_is_no_stall() -> None:
    judge = MirrorJudge(AIM, 60)
    behind = Seen(hub=stream(), consumer=consumer(), mirror=mirror(last=5), lag_seconds=70.0)
    assert judge.judge(behind, 0) is None
    judge.blind()
    assert judge.judge(behind, 70) is None
    assert judge.judge(behind, 131) is Fault.STALLED


@pytest.mark.parametrize(
    ("retention", "gone_seconds", "mirror_bytes", "fault"),
    [
        (Retention(max_age_seconds=600), 605.0, 0, None),
        (Retention(max_age_seconds=600), 30.0, 0, Fault.LOST_START),
        (Retention(max_bytes=1000), 30.0, 990, None),
        (Retention(max_bytes=1000), 30.0, 10, Fault.LOST_START),
    ],
)
def test_what_a_regions_own_retention_let_go_is_not_lost(
    retention: Retention, gone_seconds: float, mirror_bytes: int, fault: Fault | None
) -> None:
    aim = replace(AIM, retention=retention)
    config: Mapping[str, Any] = aim.mirror_config(stream())
    kept = stream(first=4, **config)
    seen = Seen(stream(), consumer(), kept, mirror_bytes, gone_seconds=gone_seconds)
    judge = MirrorJudge(aim, 60)
    judge.judge(seen, 0)
    assert judge.judge(seen, 1) is fault


@pytest.mark.parametrize(("gone_seconds", "fault"), [(3570.0, None), (1800.0, Fault.LOST_START)])
def test_what_a_region_with_a_clock_ahead_of_the_hubs_let_go_first_is_not_lost(
    gone_seconds: float, fault: Fault | None
) -> None:
    hub = stream(max_age=3600 * 10**9)
    seen = Seen(hub, consumer(), stream(first=4, **AIM.mirror_config(hub)), gone_seconds=gone_seconds)
    judge = MirrorJudge(AIM, 60)
    judge.judge(seen, 0)
    assert judge.judge(seen, 1) is fault


def test_a_mirror_that_acknowledged_what_it_lacks_is_made_again_at_once() -> None:
    seen = Seen(hub=stream(), consumer=consumer(acknowledged=9), mirror=mirror(last=7))
    assert MirrorJudge(AIM, 60).judge(seen, 0) is Fault.LOST_END
