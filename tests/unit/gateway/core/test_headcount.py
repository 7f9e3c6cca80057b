"""However many replicas there are, an id has as many connections as it may, and all agree on who has to go."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Problem
from contracts.principal import Principal
from services.gateway.core.headcount import Headcount, Holder, Policy

SUB = "ada"


@dataclass(eq=False)
class Someone:
    """A holder that leaves as it is told."""

    connection_id: str
    count: Headcount
    principal: Principal | None = None
    told: list[Problem] = field(default_factory=list)

    def refuse(self, problem: Problem) -> None:
        self.told.append(problem)
        self.count.remove(SUB, self)


def enter(count: Headcount, name: str) -> Someone:
    found = Someone(name, count)
    count.add(SUB, found)
    return found


def names(count: Headcount) -> list[str]:
    return [holder.connection_id for holder in count.of(SUB)]


def test_holders_are_counted_and_forgotten_each_once() -> None:
    count = Headcount(20, Policy.OLDEST)
    one, two, three = (enter(count, name) for name in ("1", "2", "3"))
    assert (count.numbers(), len(count), names(count)) == ({SUB: 3}, 1, ["1", "2", "3"])
    for holder in (two, two, one, three, three):
        count.remove(SUB, holder)
    assert (count.numbers(), list(count), names(count)) == ({}, [], [])
    other = enter(count, "4")
    count.remove(SUB, one)
    assert names(count) == [other.connection_id]


def test_there_is_room_up_to_the_limit_over_all_replicas() -> None:
    count = Headcount(3, Policy.OLDEST)
    enter(count, "1")
    count.hear("other", "eu", {SUB: (1, "2")}, anew=False)
    assert not count.is_full(SUB)
    enter(count, "3")
    assert count.is_full(SUB)
    count.hear("other", "eu", {SUB: (0, "")}, anew=False)
    assert not count.is_full(SUB)
    count.hear("other", "eu", {SUB: (5, "2")}, anew=True)
    count.forget("other")
    assert not count.is_full(SUB)


def test_where_the_newest_stay_there_is_always_room_and_the_oldest_of_all_goes() -> None:
    count = Headcount(2, Policy.NEWEST)
    old, young = enter(count, "2"), enter(count, "5")
    assert not count.is_full(SUB)
    count.hear("other", "eu", {SUB: (1, "1")}, anew=False)
    assert count.surplus(SUB) is None  # the other replica's is older, so it is its to close
    count.hear("other", "eu", {SUB: (1, "3")}, anew=False)
    assert count.surplus(SUB) is old
    assert count.surplus(SUB, but=old) is None  # its own next one is younger than the other replica's
    young.refuse(Problem.__new__(Problem))
    assert count.surplus(SUB) is None


def test_what_one_replica_alone_has_too_many_of_it_closes_whatever_the_others_have() -> None:
    count = Headcount(2, Policy.NEWEST)
    count.hear("other", "eu", {SUB: (9, "0")}, anew=False)
    first, second, _, _ = (enter(count, name) for name in "1234")
    for gone in (first, second):
        assert count.surplus(SUB) is gone
        gone.refuse(Problem.__new__(Problem))
    assert count.surplus(SUB) is None  # the other's are older than the two that may stay


def test_an_id_with_one_connection_of_many_costs_the_others_nothing() -> None:
    count = Headcount(20, Policy.OLDEST)
    one = enter(count, "1")
    assert (count.changes(), count.whole()) == ({}, {})
    two = enter(count, "2")
    assert count.changes() == {SUB: (2, "2")}
    assert count.changes() == {}
    assert count.whole() == {SUB: (2, "2")}
    count.remove(SUB, two)
    assert count.changes() == {SUB: (0, "")}
    count.remove(SUB, one)
    assert count.changes() == {}


def test_a_whole_takes_the_place_of_all_that_was_told() -> None:
    count = Headcount(5, Policy.OLDEST)
    count.hear("other", "eu", {SUB: (5, "1"), "bob": (5, "1")}, anew=False)
    count.hear("other", "eu", {"bob": (5, "1")}, anew=True)
    assert not count.is_full(SUB)
    assert count.is_full("bob")


@given(
    st.sampled_from(list(Policy)),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=25),
)
def test_replicas_that_have_heard_each_other_agree_and_keep_to_the_limit(
    policy: Policy, limit: int, doings: list[tuple[int, bool]]
) -> None:
    """Whoever opens and leaves where, and however late it is told: once all is told, no more stay than may."""
    counts = [Headcount(limit, policy) for _ in range(3)]
    born = 0
    alive: list[Someone] = []
    for where, opens in doings:
        if opens:
            born += 1
            alive.append(enter(counts[where], f"{born:03}"))
        elif names(counts[where]):
            holder: Holder = counts[where].of(SUB)[0]
            counts[where].remove(SUB, holder)
            alive = [one for one in alive if one is not holder]
    for _ in range(len(alive) + 2):
        for place, count in enumerate(counts):
            told = count.changes()
            for other in counts:
                if other is not count:
                    other.hear(str(place), "eu", told, anew=False)
        for count in counts:
            while (holder_ := count.surplus(SUB)) is not None:
                holder_.refuse(Problem.__new__(Problem))
    stay = sorted(name for count in counts for name in names(count))
    ordered = sorted(one.connection_id for one in alive)
    assert stay == (ordered[-limit:] if policy is Policy.NEWEST else ordered[:limit])
