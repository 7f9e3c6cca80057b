"""Members over pages of many replicas against the plainest model: whoever follows the changes knows who is there."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from contracts.presence import Member
from services.gateway.core.membership import Change, Key, Membership, PageKey

REPLICAS = ("r1", "r2", "r3")
Pages = dict[PageKey, dict[Key, Member]]

members = st.builds(
    lambda sub, role, at, data: Member(sub, role, at, Raw(b"%d" % data)),
    st.sampled_from("abcd"),
    st.sampled_from(["buyer", "node"]),
    st.integers(1, 5),
    st.integers(1, 3),
)
pages = st.tuples(st.sampled_from(REPLICAS), st.integers(0, 1))
puts = st.tuples(st.just("put"), pages, st.lists(members, max_size=4))
drops = st.tuples(st.just("drop"), st.sampled_from(REPLICAS), st.none())
settles = st.tuples(st.just("settle"), st.none(), st.none())
steps = st.lists(st.one_of(puts, drops, settles), max_size=40)


class Follower:
    """A client: it has what it was told, and no more."""

    def __init__(self) -> None:
        self.knows: dict[Key, bytes] = {}

    def take(self, change: Change) -> None:
        for one in change.joins:
            assert one.key not in self.knows
            self.knows[one.key] = bytes(one.data)
        for one in change.updates:
            assert self.knows[one.key] != bytes(one.data)
            self.knows[one.key] = bytes(one.data)
        for one in change.leaves:
            del self.knows[one.key]


def who_is_there(model: Pages) -> dict[Key, bytes]:
    found: dict[Key, tuple[int, bytes]] = {}
    for page in model.values():
        for key, one in page.items():
            found[key] = max(found.get(key, (0, b"")), (one.at, bytes(one.data)))
    return {key: data for key, (_, data) in found.items()}


@given(steps)
def test_who_follows_the_changes_knows_exactly_who_is_there(script: list[tuple[str, object, object]]) -> None:
    membership, model, follower, version = Membership(), Pages(), Follower(), 0
    for what, where, found in script:
        if what == "put":
            membership.put(where, found)  # type: ignore[arg-type]
            model[where] = {one.key: one for one in found}  # type: ignore[index, attr-defined]
        elif what == "drop":
            membership.drop(where)  # type: ignore[arg-type]
            model = {page: held for page, held in model.items() if page[0] != where}
        else:
            membership.settle()
            for change in membership.since(version) or ():
                follower.take(change)
            version = membership.version
            assert follower.knows == who_is_there(model)
    assert {key: bytes(one.data) for key, one in membership.members.items()} == who_is_there(model)


def put(membership: Membership, page: PageKey, *subs: str) -> None:
    membership.put(page, [Member(sub, "buyer", 1, Raw(b"1")) for sub in subs])


def test_who_moves_from_one_replica_to_another_has_neither_left_nor_come() -> None:
    membership = Membership()
    put(membership, ("r1", 0), "a")
    membership.settle()
    put(membership, ("r1", 0))
    put(membership, ("r2", 0), "a")
    assert not membership.settle()


def test_who_is_too_far_behind_for_the_changes_is_told_so() -> None:
    membership = Membership()
    for number in range(200):
        put(membership, ("r1", 0), *(["a"] if number % 2 else []), "b")
        membership.settle()
    assert membership.since(0) is None
    assert len(membership.since(membership.version - 3) or ()) == 3
    assert membership.since(membership.version) == []


def test_a_change_of_thousands_is_kept_alone() -> None:
    membership = Membership()
    put(membership, ("r1", 0), "a")
    membership.settle()
    put(membership, ("r1", 1), *(f"b{n}" for n in range(2000)))
    membership.settle()
    assert len(membership.since(1) or ()) == 1
    assert membership.since(0) is None
