"""docs/plans.md is run as it stands: its agents execute plans."""

import re
from pathlib import Path

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.events import fresh
from tests.harness.plans import Asker, planning, state_of
from tests.harness.streams import all_of, looking_at

DOCUMENT = (Path(__file__).parents[3] / "docs" / "plans.md").read_text()
PROGRAMS = {
    name: program
    for program in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    for name in re.findall(r"\A# (\w+)\.py", program)
}


@pytest.mark.parametrize("name", ["my_agent", "my_echo"])
async def test_an_agent_of_the_document_executes_plans(
    fresh_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(PROGRAMS[name])
    monkeypatch.syspath_prepend(tmp_path)
    async with planning(fresh_nats.url, plan_executor=f"{name}:executor"), looking_at(fresh_nats.url) as client:
        ada = Asker(client, fresh("ada"))
        task = await ada.ended((await ada.start("anybody there?")).task["id"])
        stored = [one.document["data"] for one in await all_of(client, f"plan.{ada.sub}.{task['id']}", "PLANS")]
    assert [one["parts"] for one in task["artifacts"]] == [[{"text": "anybody there?"}]]
    said = [state_of(one) if "status" in one else one["artifact"]["artifactId"] for one in stored]
    assert said == ["SUBMITTED", "WORKING", "echo", "COMPLETED"]
