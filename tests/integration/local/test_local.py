"""The whole system as one command: ready in one line, exact over a restart, gone within 5 s."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from contracts.envelope import CONTENT_TYPE
from services.chassis.server import listen
from tests.harness.events import event, fresh
from tests.harness.tokens import bearer, token
from tests.harness.waiting import until
from tests.integration.local.system import RunningSystem, ended, start

pytestmark = pytest.mark.xdist_group("local")

ROOT = Path(__file__).parents[3]
SERVICES = ("gateway", "ingest", "deals", "orders", "payments", "plans", "relay")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """One system for the tests that leave it as it was."""
    with RunningSystem(tmp_path_factory.mktemp("data"), "--no-traffic") as system:
        yield system


def publish(system: RunningSystem, document: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {system.told['tokens']['service']}", "Content-Type": CONTENT_TYPE}
    httpx.post(f"{system.ingest}/v1/events", json=document, headers=headers).raise_for_status()


def events(system: RunningSystem, buyer: str, **parameters: Any) -> Generator[dict[str, Any], None, None]:
    """The events on the buyer's channel over SSE, as `curl -N` would show them, without end."""
    headers = {"Authorization": f"Bearer {token(buyer, 'buyer')}"}
    url = f"{system.gateway}/v1/events"
    with (
        httpx.Client(timeout=10) as client,
        connect_sse(client, "GET", url, params={"channel": f"buyer:{buyer}", **parameters}, headers=headers) as source,
    ):
        yield from (block.json() for block in source.iter_sse() if block.event.isupper())


def sees(system: RunningSystem, document: dict[str, Any]) -> bool:
    """Whether the buyer gets this event, stored or live; waits for it."""
    with closing(events(system, document["data"]["buyer_id"], last=5)) as found:
        return any(each == document for each in found)


def order(buyer: str) -> dict[str, Any]:
    return event("ORDER_CREATED", buyer=buyer)


async def gone(pid: int) -> None:
    await until(lambda: not Path(f"/proc/{pid}").exists(), seconds=5, what=f"process {pid} to end")


def test_ready_is_one_line_and_everything_in_it_works(tmp_path: Path) -> None:
    with RunningSystem(tmp_path, "--no-traffic") as system:
        assert list(system.told) == [*SERVICES, "nats", "tokens", "payment_webhook_secret"]
        assert set(system.told["tokens"]) == {"buyer", "node", "admin", "service"}
        for service in SERVICES:
            assert httpx.get(f"{system.told[service]}/readyz").status_code == 200
        document = order(fresh("buyer"))
        publish(system, document)
        assert sees(system, document)
        end = system.stop()
    assert (end.code, end.out) == (0, "")
    assert end.seconds < 5


def test_what_was_published_is_there_after_a_restart_with_the_same_tokens(tmp_path: Path) -> None:
    made: dict[str, str | None] = {"A2A_JWT_HS256_SECRET": None}
    document = event("ORDER_CREATED", buyer="buyer_ada")
    with RunningSystem(tmp_path, "--no-traffic", environment=made) as before:
        publish(before, document)
        tokens = before.told["tokens"]
    with RunningSystem(tmp_path, "--no-traffic", environment=made) as after:
        url = f"{after.gateway}/v1/channels/buyer:buyer_ada/events"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {tokens['buyer']}"})
        assert [entry["event"] for entry in answer.json()["events"]] == [document]


def test_the_gateway_drains_as_it_is_told_before_the_system_ends(tmp_path: Path) -> None:
    told: dict[str, str | None] = {"A2A_DRAIN_GRACE_S": "1", "A2A_DRAIN_SPREAD_S": "2"}
    with RunningSystem(tmp_path, "--no-traffic", environment=told) as system:
        address = f"{system.gateway.replace('http', 'ws', 1)}/v1/ws"
        with connect(address, additional_headers=bearer("buyer_ada", "buyer")) as socket:
            assert json.loads(socket.recv(10))["op"] == "welcome"
            began = time.monotonic()
            system.process.terminate()
            drain = json.loads(socket.recv(10))
            assert time.monotonic() - began >= 1  # the grace
            assert drain["op"] == "drain"
            assert 900 < drain["reconnect_in_ms"] <= 1000  # alone, in the middle of the spread
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4200
            assert time.monotonic() - began >= 1.9
        assert ended(system.process).code == 0


def test_demo_traffic_is_deals_that_are_dealt_to_their_end(tmp_path: Path) -> None:
    with RunningSystem(tmp_path, environment={"A2A_TRAFFIC_RATE": "100"}) as system:
        with closing(events(system, "buyer_ada", cursor="earliest")) as found:
            assert next(each for each in found if each["type"] == "ORDER_CONFIRMED")["data"]["buyer_id"] == "buyer_ada"
        assert system.stop(signal.SIGINT).code == 0


@pytest.mark.chaos
@pytest.mark.parametrize("name", [*(f"services.{service}" for service in SERVICES), "nats-server"])
async def test_a_killed_child_is_started_again_at_the_same_address(running: RunningSystem, name: str) -> None:
    document = order(fresh("buyer"))
    publish(running, document)
    killed = running.child(name)
    os.kill(killed, signal.SIGKILL)
    await gone(killed)

    def all_ready() -> bool:
        return all(is_ready(f"{running.told[service]}/readyz") for service in SERVICES)

    await until(lambda: name in processes(running) and all_ready(), seconds=20, what=f"{name} to be back")
    assert sees(running, document)
    again = order(document["data"]["buyer_id"])
    publish(running, again)
    assert sees(running, again)


@pytest.mark.chaos
async def test_nothing_outlives_a_killed_supervisor_and_the_next_start_works(tmp_path: Path) -> None:
    document = order(fresh("buyer"))
    with RunningSystem(tmp_path) as system:
        publish(system, document)
        children = [system.child(name) for name in ("services.gateway", "services.ingest", "nats-server")]
        system.process.kill()
        for child in children:
            await gone(child)
        system.process.communicate()
    with RunningSystem(tmp_path, "--no-traffic") as system:
        assert sees(system, document)


def test_a_size_that_does_not_fit_is_one_line_with_what_is_free(tmp_path: Path) -> None:
    end = ended(start(tmp_path, "--json", "--port", "0", environment={"A2A_MARKET_MAX_BYTES": str(10**16)}))
    assert (end.code, end.out) == (2, "")
    (line,) = end.err.splitlines()
    assert line.startswith("error: ")
    assert "MiB free" in line
    assert "A2A_MARKET_MAX_BYTES" in line


def test_a_wrong_setting_of_a_service_is_its_own_line(tmp_path: Path) -> None:
    end = ended(start(tmp_path, "--json", "--port", "0", environment={"A2A_LOG_LEVEL": "loud"}))
    assert (end.code, end.out) == (2, "")
    assert end.err.startswith("error: A2A_LOG_LEVEL: ")
    assert end.err.count("\n") == 1


def test_a_second_system_on_the_same_folder_is_told(running: RunningSystem) -> None:
    end = ended(start(running.data, "--json", "--port", "0"))
    assert end.code == 2
    assert f"in use by process {running.process.pid}" in end.err
    assert httpx.get(f"{running.gateway}/readyz").status_code == 200


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        end = ended(start(tmp_path, "--json", "--port", str(taken.getsockname()[1])))
    assert end.code == 2
    assert end.err.endswith("choose another with --port N\n")


def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    end = ended(start(tmp_path / "file", "--json", "--port", "0"))
    assert end.code == 2
    assert end.err.endswith("choose another with --data DIR\n")


def test_without_json_it_greets_a_person_and_what_is_printed_works_when_it_is_pasted(tmp_path: Path) -> None:
    with start(tmp_path, "--port", "0", "--no-traffic", environment={"A2A_PLAN_STEP_S": "0"}) as process:
        text = greeting(process)
        script = text[text.index("BUYER=") : text.index("Have a plan made")]
        pasted = [paste(script) for _ in range(2)]
        (plan,) = re.findall(r"^curl -sSN .*\n.*message:stream.*$", text, re.MULTILINE)
        planned = paste(plan)
        process.terminate()
        assert ended(process).code == 0
    for one in (*pasted, planned):
        assert (one.returncode, one.stderr) == (0, "")
    accepted, paid = pasted[0].stdout.replace("}{", "}\n{").splitlines()
    assert set(json.loads(accepted)) == set(json.loads(paid)) == {"id", "cursor"}
    assert pasted[1].stdout == pasted[0].stdout
    assert "TASK_STATE_COMPLETED" in planned.stdout


def test_the_readmes_deal_works_when_it_is_pasted(running: RunningSystem) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (script,) = (block for block in blocks if "QUOTE=" in block)
    tokens = running.told["tokens"]
    given = {"BUYER": tokens["buyer"], "NODE": tokens["node"], "DEALS": running.told["deals"]}
    done = paste("".join(f"{name}={value}\n" for name, value in given.items()) + script)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) == {"id", "cursor"}


def paste(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script], check=False, capture_output=True, text=True, timeout=30)


def greeting(process: subprocess.Popen[str]) -> str:
    """What it prints until it is ready."""
    assert process.stdout is not None
    text = ""
    while "docs/publishers.md" not in text:
        line = process.stdout.readline()
        assert line, "it ended before it was ready"
        text += line
    return text


def processes(system: RunningSystem) -> str:
    """The command lines of its children that live."""
    listed = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if fields[1] == str(system.process.pid) and fields[0] != "Z":
                listed.append(path.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended while we looked
    return "\n".join(listed)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
