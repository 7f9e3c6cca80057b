"""docs/a2a.md is run as it stands: its commands in a shell, its program by Python."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.events import fresh
from tests.harness.gateway import running_gateway
from tests.harness.plans import planning
from tests.harness.tokens import token

DOCUMENT = (Path(__file__).parents[3] / "docs" / "a2a.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
(PROGRAM,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


async def ran(variables: dict[str, str], *command: str) -> str:
    """What it printed; it has to end well."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode().replace(": hb\n", "")  # on a busy machine a stream may be quiet for long


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
async def test_what_the_document_says_happens(fresh_nats: EmbeddedNats) -> None:
    example: Any = {"plan_executor": "services.plans.example:executor", "plan_step_s": 0.05}
    async with planning(fresh_nats.url, **example), running_gateway(fresh_nats.url) as gateway:
        variables = {"GATEWAY": gateway.url, "BUYER": token(fresh("buyer"), "buyer")}
        card, begun, resumed, by_hand = [await ran(variables, "bash", "-euc", block) for block in SHELL]
        assert f"{gateway.url}/a2a" in card
        assert begun.count("\ndata: ") >= 5
        assert "TASK_STATE_COMPLETED" in begun.split("\n\n")[-2]
        # As of the second event, and then each that followed.
        first, *rest = resumed.strip().split("\n\n")
        assert '{"task":' in first
        assert rest == begun.strip().split("\n\n")[2:]
        assert '"totalSize":1' in by_hand
        assert by_hand.endswith(re.findall(r"```json\n(.*?)\n```", DOCUMENT, re.DOTALL)[-1])
        told = await ran(variables, sys.executable, "-c", PROGRAM)
        assert told.splitlines()[0].startswith("TASK_STATE_SUBMITTED PLANS.")
        assert told.splitlines()[-1].startswith("TASK_STATE_COMPLETED PLANS.")
        assert "made text" in told
