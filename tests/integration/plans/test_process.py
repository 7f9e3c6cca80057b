"""`python -m services.plans` as a process: its command line, its health, its end."""

import httpx
import pytest

from services.local.embedded import EmbeddedNats
from services.plans import __main__ as command
from services.plans.app import dead_letters
from services.plans.loading import load
from services.plans.settings import PlansSettings
from tests.harness.plans import Asker, planning
from tests.harness.streams import looking_at
from tests.harness.tokens import SECRET


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    assert "A2A_PLAN_EXECUTOR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no colon", "not module:factory"),
        ("no.such.module:x", "No module named"),
        ("services.plans.example:nothing", "no callable 'nothing'"),
    ],
)
def test_an_executor_that_is_none_is_a_wrong_setting_in_one_line(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=told):
        load(name)
    monkeypatch.setenv("A2A_JWT_HS256_SECRET", SECRET)
    monkeypatch.setenv("A2A_PLAN_EXECUTOR", name)
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: A2A_PLAN_EXECUTOR")
    assert told in line


def test_in_a_region_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A2A_JWT_HS256_SECRET", SECRET)
    monkeypatch.setenv("A2A_HUB_DOMAIN", "hub")
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: A2A_HUB_DOMAIN: plans runs at the hub, and is asked from every region; leave this empty\n"
    )


async def test_it_tells_whether_it_is_ready_and_counts_without_ids(fresh_nats: EmbeddedNats) -> None:
    async with planning(fresh_nats.url) as url, looking_at(fresh_nats.url) as client, httpx.AsyncClient() as http:
        ada = Asker(client, "ada_in_metrics")
        task = await ada.ended((await ada.start("say 1")).task["id"])
        found = (await http.get(f"{url}/readyz")).json()
        assert (found["failing"], list(found["epochs"])) == ({}, ["PLANS"])
        assert (await http.get(f"{url}/livez")).status_code == 200
        text = (await http.get(f"{url}/metrics")).text
        assert 'a2a_plans_turns_total{outcome="over"} 1.0' in text
        assert 'a2a_plans_requests_total{op="start",outcome="ok"} 1.0' in text
        assert "a2a_plans_running 0.0" in text
        assert not any(value in text for value in (ada.sub, task["id"]))


async def test_dead_letters_are_listed(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with planning(fresh_nats.url), looking_at(fresh_nats.url) as client:
        ada = Asker(client, "ada")
        await ada.ended((await ada.start("fail")).task["id"])
    monkeypatch.setenv("A2A_NATS_URL", fresh_nats.url)
    monkeypatch.setenv("A2A_JWT_HS256_SECRET", SECRET)
    assert await dead_letters(PlansSettings(declare=False)) == 0
    assert "executor_failed: ValueError: the agent does not know how" in capsys.readouterr().out
