from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.core.fanout import STEP_BYTES, Fanout, Part, Pieces, Types
from services.gateway.core.log import Entry, Life
from services.gateway.core.replay import Now
from services.gateway.core.subscription import Reader, Subscription
from tests.harness.archive import EPOCH
from tests.harness.core import World, order, sequences
from tests.harness.recorder import Recorder

LIFE = Life("MARKET", EPOCH)
CHANNELS = ["order:o1", "order:o2", "buyer:b"]
TYPES: st.SearchStrategy[Types] = st.sampled_from([None, frozenset("A"), frozenset("AB")])
BATCH = st.lists(
    st.tuples(st.lists(st.sampled_from(CHANNELS), max_size=3, unique=True), st.sampled_from(["A", "B", None])),
    max_size=9,
)


@dataclass
class Member:
    """One live subscription, as the model has it."""

    client: int
    channel: str
    types: Types
    leaves: bool
    subscription: Subscription

    def wants(self, entry: Entry) -> bool:
        chosen = self.types is None or entry.type in self.types
        return chosen and self.channel in entry.keys and not self.leaves


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(CHANNELS), TYPES, st.booleans()), max_size=12),
    st.lists(st.integers(0, 3), max_size=3),
    BATCH,
)
def test_each_live_reader_gets_exactly_what_each_of_its_channels_selects(
    joins: list[tuple[int, str, Types, bool]], behind: list[int], batch: list[tuple[list[str], str | None]]
) -> None:
    world, fanout = World(), Fanout()
    readers = [Reader(Recorder(world), world.market.stream) for _ in range(4)]
    members: dict[tuple[int, str], Member] = {}
    for client, channel, types, leaves in joins:
        subscription = Subscription(readers[client], (world.grant(channel),), Now(), types, "notify")
        if (client, channel) not in members:
            fanout.join(channel, channel, types, subscription)
            members[client, channel] = Member(client, channel, types, leaves, subscription)
    for member in members.values():
        if member.leaves:
            fanout.leave(member.channel, member.types, member.subscription)
            fanout.leave(member.channel, member.types, member.subscription)
    for client in behind:
        readers[client].position = 0
    entries = [Entry(LIFE, n, 0, tuple(keys), kind, False, b"{}") for n, (keys, kind) in enumerate(batch, 1)]
    expected = {
        place: wanted
        for place, member in members.items()
        if member.client not in behind and (wanted := [entry.sequence for entry in entries if member.wants(entry)])
    }
    found = {
        (readers.index(reader), part.channel): sequences(part.entries)
        for reader, parts in fanout.due(entries)[0].items()
        for part in parts
    }
    assert found == expected
    for member in members.values():
        fanout.leave(member.channel, member.types, member.subscription)
    assert len(fanout) == 0


def test_a_large_batch_comes_in_steps_of_what_a_channel_takes_at_once() -> None:
    world = World()
    client = Recorder(world)
    client.begin("order:o1")
    fanout = world.market.stream.fanout
    large = b"x" * (STEP_BYTES // 2)
    channels = ("order:o1", "order:o2", "order:o1", "order:o2", "order:o1")
    batch = [Entry(LIFE, n, 0, (channel,), None, False, large) for n, channel in enumerate(channels, 1)]
    steps, start = [], 0
    while start < len(batch):
        readers, start = fanout.due(batch, start)
        steps.append(([sequences(part.entries) for parts in readers.values() for part in parts], start))
    assert steps == [([[1, 3]], 3), ([[5]], 5)]


def test_the_bytes_of_a_part_are_made_once_for_all_who_get_it() -> None:
    world = World()
    clients = [Recorder(world) for _ in range(3)]
    for client in clients:
        client.begin("order:o1")
    [stored] = world.publish(order("o1"))
    parts, _ = world.market.stream.fanout.due([stored.entry(LIFE)])
    assert len({id(one) for one in parts.values()}) == 1
    [part] = next(iter(parts.values()))
    assert part.frames is part.frames
    assert part.blocks is part.blocks
    assert part.frames == b"".join(entry.frame("order:o1") for entry in part.entries)


def test_the_bytes_that_all_get_are_not_kept_with_each_event() -> None:
    world = World()
    client = Recorder(world)
    client.begin("order:o1")
    [stored] = world.publish(order("o1"))
    stream = world.market.stream
    entry = stored.entry(LIFE)
    parts, _ = stream.fanout.due([entry])
    assert next(iter(parts.values()))[0].frames.endswith(entry.payload + b"}")
    assert entry._frame == b""


@pytest.mark.parametrize("size", [2, 30, 60_000, 70_000])
def test_a_part_is_its_entries_frames_one_after_the_other(size: int) -> None:
    entries = [Entry(LIFE, sequence, 0, (), None, False, b"x" * (size + sequence)) for sequence in (1, 2)]
    frames = b"".join(entry.frame("order:o1") for entry in entries)
    assert Part("order:o1", entries, is_for_all=True).frames == Part("order:o1", entries).frames == frames


def test_an_event_meets_whoever_is_there_when_it_comes() -> None:
    world = World()
    first, second = Recorder(world), Recorder(world)

    def met() -> set[object]:
        [stored] = world.publish(order("o1"))
        readers, _ = world.market.stream.fanout.due([stored.entry(LIFE)])
        return {reader.connection for reader in readers}

    assert met() == set()
    first.begin("order:o1")
    assert met() == {first}
    second.begin("buyer:b")
    assert met() == {first, second}
    first.release()
    assert met() == {second}


def test_a_part_joins_its_entries_in_order() -> None:
    entries = [Entry(LIFE, sequence, 0, (), None, False, b"{}") for sequence in (1, 2)]
    part = Part("order:o1", entries)
    assert part.blocks == entries[0].block() + entries[1].block()


def test_leaving_what_was_never_joined_changes_nothing() -> None:
    world = World()
    client = Recorder(world)
    subscription = client.begin("order:o1")
    fanout = world.market.stream.fanout
    fanout.leave("order:o2", None, subscription)
    fanout.leave("order:o1", frozenset("A"), subscription)
    assert len(fanout) == 1


def test_pieces_that_many_read_alike_are_made_once_and_the_oldest_is_forgotten() -> None:
    pieces = Pieces()
    made = [(Part("order:o1", []), end) for end in range(40)]
    for end, piece in enumerate(made):
        pieces.keep(end, piece)
    assert pieces.get(0) is None
    assert [pieces.get(end) for end in range(8, 40)] == made[8:]
