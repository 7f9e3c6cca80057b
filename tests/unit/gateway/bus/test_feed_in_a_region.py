"""What a feed makes of a mirror that is not as it left it: only the hub says that something is gone for good."""

from dataclasses import dataclass
from typing import Any

import pytest

from contracts.cursor import epoch_of
from services.chassis.jetstream import StreamState
from services.chassis.telemetry import logger
from services.gateway.bus.decode import Decoder
from services.gateway.bus.feed import Feed, _Broken
from services.gateway.bus.site import Site
from services.gateway.core.replica import Tally
from services.gateway.core.stream import Stream
from tests.harness.archive import BORN_MS, EPOCH, KEYS, FakeArchive

OLDER, NEWER = epoch_of(BORN_MS - 1), epoch_of(BORN_MS + 1)
HIGH = 100


def state(first: int, last: int, epoch: str = EPOCH) -> StreamState:
    return StreamState("MARKET", epoch, first, last, last - first + 1, 1, {"mirror": {"name": "MARKET"}})


@dataclass
class Hub:
    """The stream at the hub, as it says it is."""

    said: StreamState

    async def state(self) -> StreamState:
        return self.said


class Restarts(Stream):
    """A stream that notes how it was begun anew."""

    def __init__(self) -> None:
        super().__init__("MARKET", "market.>", 10**6, FakeArchive("MARKET"), lambda _: None, lambda *_: None)
        self.seen: list[tuple[str, str, int, int | None]] = []
        self.open(EPOCH, HIGH)

    def restart(self, reason: str, epoch: str, to: int, *, begins: int | None = None) -> None:
        self.seen.append((reason, epoch, to, begins))


def feed_of(stream: Stream, hub: Any) -> Feed:
    tally, log = Tally(), logger("test")
    decoder = Decoder("MARKET", KEYS, tally, log)
    return Feed(Site("hub"), stream, decoder, tally, log, warm_events=0, declare=None, hub=hub)


@pytest.mark.parametrize(
    ("mirror", "hub", "seen"),
    [
        (state(1, 120), state(1, 120), []),
        # Trimmed past the log's end: the readers go on from where they are, and read it from the hub.
        (state(110, 120), state(1, 120), [("expired", EPOCH, 0, 109)]),
        (state(1, 3, NEWER), state(1, 3, NEWER), [("recreated", NEWER, 0, 0)]),
        (state(51, 60, NEWER), state(1, 60, NEWER), [("recreated", NEWER, 0, 50)]),
        # Cut back at the hub too: that is so.
        (state(1, 60), state(1, 70), [("ahead", EPOCH, 70, 60)]),
    ],
)
async def test_a_mirror_that_changed_begins_the_log_anew_and_names_what_the_hub_lacks(
    mirror: StreamState, hub: StreamState, seen: list[Any]
) -> None:
    stream = Restarts()
    await feed_of(stream, Hub(hub))._compare(mirror)
    assert stream.seen == seen


@pytest.mark.parametrize(
    ("mirror", "hub"),
    [
        (state(1, 60), state(1, 120)),  # being filled again
        (state(1, 60), state(1, 3, NEWER)),  # about to be made anew
        (state(1, 120, OLDER), state(1, 120)),  # of a life that is over
    ],
)
async def test_a_mirror_that_is_behind_what_was_read_is_waited_for(mirror: StreamState, hub: StreamState) -> None:
    stream = Restarts()
    with pytest.raises(_Broken):
        await feed_of(stream, Hub(hub))._compare(mirror)
    assert stream.seen == []
