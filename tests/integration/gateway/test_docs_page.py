"""`/docs` in a real browser: its style applies under its own Content-Security-Policy, and nothing is refused."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from contracts.registry import REGISTRY
from tests.harness.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser]


async def test_the_page_is_shown_whole_and_the_browser_complains_of_nothing(gateway: Gateway, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine: `apt-get install chromium`")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}",
        "--dump-dom",
        f"{gateway.url}/docs",
    ]
    shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in shown.stderr
    for contract in REGISTRY:
        assert f'id="{contract.type}.{contract.version}"' in shown.stdout
