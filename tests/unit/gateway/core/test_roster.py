from msgspec import Raw

from contracts.presence import PAGE_MEMBERS
from services.gateway.core.roster import Roster

ANN = ("ann", "buyer")
BOB = ("bob", "node")


def taken(roster: Roster) -> dict[tuple[str, int], list[str]]:
    return {(channel, page): [one.sub for one in found] for channel, page, found in roster.take_changed()}


def entered(roster: Roster, sub: str = "ann", seat: object = "s1", at: int = 1, data: bytes = b"1") -> None:
    roster.enter("order:o", (sub, "buyer"), seat, Raw(data), at)


def test_a_member_is_written_once_however_many_connections_it_has() -> None:
    roster = Roster(10)
    entered(roster, seat="s1", data=b"1")
    entered(roster, seat="s2", data=b"2")
    [(_, _, [member])] = list(roster.take_changed())
    assert (member.sub, bytes(member.data), roster.count) == ("ann", b"2", 1)


def test_it_leaves_with_its_last_connection() -> None:
    roster = Roster(10)
    entered(roster, seat="s1")
    entered(roster, seat="s2")
    taken(roster)
    roster.leave("order:o", ANN, "s1", 0, at_once=True)
    assert taken(roster) == {}
    roster.leave("order:o", ANN, "s2", 0, at_once=True)
    assert taken(roster) == {("order:o", 0): []}
    assert roster.count == 0


def test_who_lost_its_connection_stays_for_the_grace_and_no_longer() -> None:
    roster = Roster(10)
    entered(roster)
    taken(roster)
    roster.leave("order:o", ANN, "s1", 100, at_once=False)
    roster.pass_time(109.9)
    assert taken(roster) == {}
    assert roster.due == 110
    roster.pass_time(110)
    assert taken(roster) == {("order:o", 0): []}


def test_who_comes_back_within_the_grace_has_not_been_away() -> None:
    roster = Roster(10)
    entered(roster)
    taken(roster)
    roster.leave("order:o", ANN, "s1", 100, at_once=False)
    entered(roster, seat="s2")
    roster.pass_time(200)
    assert taken(roster) == {("order:o", 0): ["ann"]}
    assert roster.due is None


def test_a_second_loss_has_a_grace_of_its_own() -> None:
    roster = Roster(10)
    entered(roster)
    roster.leave("order:o", ANN, "s1", 100, at_once=False)
    entered(roster, seat="s2")
    roster.leave("order:o", ANN, "s2", 105, at_once=False)
    roster.pass_time(112)
    assert roster.count == 1
    roster.pass_time(115)
    assert roster.count == 0


def test_what_is_said_later_counts_though_the_clock_went_back() -> None:
    roster = Roster(10)
    entered(roster, at=500, data=b"1")
    entered(roster, at=400, data=b"2")
    [(_, _, [member])] = list(roster.take_changed())
    assert (member.at, bytes(member.data)) == (501, b"2")


def test_members_stand_in_pages_and_a_change_touches_one_of_them() -> None:
    roster = Roster(10)
    for number in range(PAGE_MEMBERS + 3):
        entered(roster, sub=f"b{number}", seat=number)
    assert {place: len(found) for place, found in taken(roster).items()} == {
        ("order:o", 0): PAGE_MEMBERS,
        ("order:o", 1): 3,
    }
    roster.leave("order:o", ("b7", "buyer"), 7, 0, at_once=True)
    assert list(taken(roster)) == [("order:o", 0)]
    entered(roster, sub="new", seat="new")
    assert list(taken(roster)) == [("order:o", 0)]  # where there is room again


def test_a_seat_that_never_entered_leaves_nothing() -> None:
    roster = Roster(10)
    entered(roster)
    taken(roster)
    roster.leave("order:o", ANN, "other", 0, at_once=True)
    roster.leave("order:o", BOB, "s1", 0, at_once=True)
    roster.leave("order:p", ANN, "s1", 0, at_once=True)
    assert taken(roster) == {}
    assert roster.count == 1


def test_all_pages_can_be_written_again() -> None:
    roster = Roster(10)
    entered(roster)
    taken(roster)
    roster.touch_all()
    assert taken(roster) == {("order:o", 0): ["ann"]}
