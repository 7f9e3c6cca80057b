"""The machine: open files are raised as far as needed, and children get the core that is meant for them."""

import os
import resource
import subprocess
import sys

import pytest

from tests.load import machine


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, *, privileged: bool) -> list[tuple[int, int]]:
    """Limits that only this test sees; what is asked of the kernel is noted."""
    asked: list[tuple[int, int]] = []

    def setrlimit(_: int, wanted: tuple[int, int]) -> None:
        if not privileged and wanted[1] > hard:
            raise ValueError("not allowed to raise maximum limit")
        asked.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return asked


def test_enough_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 20_000, 20_000, privileged=False)
    machine.allow_open_files(10_000)
    assert asked == []


def test_the_soft_limit_is_raised_and_the_hard_one_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 1024, 20_000, privileged=False)
    machine.allow_open_files(10_000)
    assert asked == [(10_200, 20_000)]


def test_what_cannot_be_had_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 1024, 4096, privileged=False)
    with pytest.raises(machine.NotEnoughFiles, match=r"need 10200 open files and the hard limit is 4096; .*--idle"):
        machine.allow_open_files(10_000)


def test_a_privileged_user_raises_both(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limits(monkeypatch, 1024, 4096, privileged=True)
    machine.allow_open_files(10_000)
    assert asked == [(10_200, 10_200)]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_a_child_runs_on_the_core_that_it_is_given_and_we_stay_where_we_are() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with machine.on_core(core):
        told = subprocess.run(
            [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"],
            check=True,
            capture_output=True,
            text=True,
        )
    assert told.stdout.strip() == str([core])
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_with_one_core_nothing_is_pinned_and_the_facts_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    cores = machine.choose_cores()
    assert not cores.are_pinned
    assert "unpinned" in machine.facts(cores)["cores"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_servers_and_load_client_have_a_core_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2, 7})
    assert machine.choose_cores() == machine.Cores(2, 5)
