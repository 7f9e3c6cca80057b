from services.gateway.core.lease import Leases


def leases() -> Leases:
    found = Leases(10, 10)
    found.hears({"r1"}, 0.0)
    return found


def test_a_replica_that_fell_silent_is_gone_within_lease_and_grace_and_not_much_sooner() -> None:
    found = leases()
    found.renewed("r1", 100)
    assert found.take_ended(118.5) == []
    assert found.take_ended(119.5) == ["r1"]
    assert "r1" not in found


def test_a_renewal_within_that_time_keeps_it() -> None:
    found = leases()
    found.renewed("r1", 115)
    assert found.take_ended(133) == []


def test_a_lease_that_ran_out_at_the_store_begins_the_grace() -> None:
    found = leases()  # it was seen first when its lease was nearly over
    found.ended("r1", 2)
    assert found.take_ended(10.9) == []
    assert found.take_ended(11.1) == ["r1"]


def test_a_replica_that_hears_nothing_tells_nobody_that_others_left() -> None:
    found = leases()
    found.deafened()
    assert found.take_ended(1000) == []
    assert found.due is None


def test_once_it_hears_again_those_without_a_lease_have_the_grace_to_come_back() -> None:
    found = leases()
    found.renewed("r2", 0)
    found.deafened()
    found.hears({"r2", "r3"}, 1000)
    assert found.take_ended(1008) == []
    assert found.take_ended(1009.5) == ["r1"]
    assert {"r2", "r3"} <= {one for one in ("r1", "r2", "r3") if one in found}


def test_the_end_of_a_lease_that_nobody_knew_is_no_news() -> None:
    found = leases()
    found.ended("stranger", 5)
    assert "stranger" not in found
    assert len(found) == 1
