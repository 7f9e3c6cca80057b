"""`ours.json`, by which another bench runs the gateway, is what the code says and names no place of this machine."""

import json
from pathlib import Path

from services.chassis.auth import TokenVerifier
from services.gateway.settings import GatewaySettings
from tests.load import ours
from tests.load.tokens import SECRET, header, write_headers

FILE = Path(ours.__file__).with_name("ours.json")


def test_the_committed_file_is_what_the_command_writes() -> None:
    assert FILE.read_text() == ours.text(), "run: python -m tests.load.ours > tests/load/ours.json"


def test_it_names_settings_that_exist_and_no_path() -> None:
    [[command, environment]] = json.loads(FILE.read_text())["procs"]
    assert command == ["python", "-m", "services.gateway"]
    known = {f"A2A_{name.upper()}" for name in GatewaySettings.model_fields}
    assert set(environment) <= known
    assert "/" not in "".join(environment.values()).replace("nats://", "")


async def test_its_token_is_one_that_the_gateway_takes() -> None:
    said = json.loads(FILE.read_text())["ws"]
    token = said[said.index("--header") + 1].removeprefix("Authorization: Bearer ")
    principal = await TokenVerifier(hs256_secret=SECRET).verify(token)
    assert (principal.sub, principal.role) == ("bench", "admin")


def test_each_connection_may_have_a_token_of_its_own(tmp_path: Path) -> None:
    lines = write_headers(tmp_path / "headers", ["b0", "b1"], "buyer").read_text().splitlines()
    assert lines == [header("b0", "buyer"), header("b1", "buyer")]
    assert lines[0] != lines[1]
