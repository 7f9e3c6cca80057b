"""docker-compose.yml and deploy/Dockerfile, for real: `pytest -m containers` with a container engine at hand."""

import json
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests.containers.conftest import Compose, docker
from tests.harness.dealing import Ask, Desk
from tests.harness.events import event
from tests.harness.tokens import bearer

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1200)]


def test_an_event_published_over_ingest_is_seen_on_the_gateways_event_stream(system: Compose) -> None:
    wanted = event("ORDER_CREATED", buyer="ada", order="order_in_a_container")
    live, seen = threading.Event(), list[tuple[str, str]]()

    def watch() -> None:
        asked = {"channel": "order:order_in_a_container"}
        headers = bearer("ada", "buyer")
        with httpx.stream("GET", f"{system.gateway}/v1/events", params=asked, headers=headers, timeout=30) as answer:
            assert answer.status_code == 200
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if kind == "live":
                    live.set()
                if name == "data" and kind == "ORDER_CREATED":
                    seen.append((kind, value))
                    return

    watching = threading.Thread(target=watch)
    watching.start()
    assert live.wait(30)
    stored = httpx.post(
        f"{system.ingest}/v1/events",
        json=wanted,
        headers={**bearer("orders", "service"), "Content-Type": "application/cloudevents+json"},
        timeout=30,
    )
    assert stored.status_code in (200, 201), stored.text
    watching.join(30)
    assert [json.loads(data)["id"] for _, data in seen] == [wanted["id"]]


def test_the_services_are_healthy_and_tell_their_grade(system: Compose) -> None:
    for service in ("relay", "nats"):
        assert docker("inspect", "--format", "{{.State.Health.Status}}", system.container(service)) == "healthy"
    assert httpx.get(f"{system.ingest}/readyz").json()["durability"] == {"replicas": 1, "sync": "120s"}


@pytest.mark.parametrize("service", ["relay", "gateway", "ingest", "deals", "orders", "payments", "plans"])
def test_an_image_runs_as_nobody_special_and_holds_one_service_and_no_tool(system: Compose, service: str) -> None:
    container = system.container(service)
    assert docker("exec", container, "id", "-u") == "10001"
    held = docker("exec", container, "sh", "-c", "ls /app/services | grep -v __pycache__").split()
    assert held == sorted(["__init__.py", "chassis", service])
    unwanted = ("pip", "pytest", "mypy", "ruff", "hypothesis", "testcontainers", "setuptools")
    tried = f"import importlib.util as u; print([n for n in {unwanted} if u.find_spec(n)])"
    assert docker("exec", container, "python", "-c", tried) == "[]"


@pytest.mark.parametrize("name", ["A2A_JWT_HS256_SECRET", "A2A_PAYMENT_WEBHOOK_SECRET"])
def test_without_a_secret_nothing_starts_and_the_variable_is_named(compose_command: tuple[str, ...], name: str) -> None:
    refused = Compose(compose_command).run("config", without=name)
    assert refused.returncode != 0
    assert name in refused.stderr


def test_a_deal_is_dealt_from_intent_to_confirmed_order(system: Compose) -> None:
    desk = Desk(system.urls)

    def done(ask: Ask) -> str:
        answer = answered(ask, lambda one: one.status_code != 404)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    intent = done(desk.intent("ada"))
    negotiation = done(desk.start("ada", intent, done(desk.quote("oslo", intent))))
    done(desk.accept("node", "oslo", negotiation))
    talk = desk.query("deals", f"/v1/negotiations/{negotiation}", "buyer", "ada").now().json()
    order = done(desk.result(talk["state"]["order_id"]))
    shown = desk.query("orders", f"/v1/orders/{order}", "buyer", "ada")
    answered(shown, lambda one: one.json()["state"]["status"] == "confirmed")


def answered(ask: Ask, as_wanted: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Ask until the answer is as wanted: what one service does of another's event takes a moment."""
    deadline = time.monotonic() + 10
    while not as_wanted(answer := ask.now()):
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer


def test_events_outlive_the_containers(system: Compose) -> None:
    def epoch() -> str:
        found: str = httpx.get(f"{system.ingest}/readyz", timeout=5).json()["epochs"]["MARKET"]
        return found

    before = epoch()
    system.do("restart", "--timeout", "5", "nats")
    with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=30) as client:
        body = event("ORDER_CREATED", buyer="ada")
        stored = client.post(f"{system.ingest}/v1/events", json=body, headers=bearer("orders", "service"))
    assert stored.status_code in (200, 201), stored.text
    assert epoch() == before


def test_the_services_end_in_order_when_they_are_stopped(system: Compose) -> None:
    services = ("relay", "ingest", "gateway", "deals", "orders", "payments", "plans")
    containers = {service: system.container(service) for service in services}
    system.do("stop", "--timeout", "80", *services)
    for service, container in containers.items():
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0", service
