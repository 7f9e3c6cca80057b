import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette

from contracts.cursor import Cursor
from contracts.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE, LARGEST_EVENT_BYTES, Publication
from contracts.errors import ErrorCode, Problem
from contracts.registry import REGISTRY
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.problems import EXCEPTION_HANDLERS
from services.ingest.domain import NotStored, Stored
from services.ingest.routes import EventRoutes
from tests.harness.events import event
from tests.harness.tokens import SECRET, bearer
from tests.harness.waiting import until

BATCH_MAX_BYTES = 2 * 1024**2
SERVICE = bearer("publisher", "service")


class FakeStore:
    """Stores in a list; `problem` makes it give up after the first event."""

    def __init__(self) -> None:
        self.published: list[Publication] = []
        self.problem: Problem | None = None
        # Set: `put` goes on.
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, publications: Sequence[Publication]) -> list[Stored]:
        await self.open.wait()
        known = [each.event_id for each in self.published]
        stored = [
            Stored(each.event_id, Cursor("MARKET", "0mi7c3k9x", index), each.event_id in known)
            for index, each in enumerate(publications, len(known) + 1)
        ]
        if self.problem is not None:
            raise NotStored(self.problem, stored[:1])
        self.published += publications
        return stored


class Service:
    """The endpoint over a fake store, without a socket."""

    def __init__(self, **bounds: Any) -> None:
        self.store = FakeStore()
        self.metrics = CollectorRegistry()
        self.bodies = Bodies(**{"most_bytes": 8 * 1024**2, "seconds": 5, **bounds})
        routes = EventRoutes(
            self.store,
            TokenVerifier(hs256_secret=SECRET),
            REGISTRY,
            bodies=self.bodies,
            batch_max_bytes=BATCH_MAX_BYTES,
            refused=Counter("refused", "", ["code"], registry=self.metrics),
            durability=lambda: {"replicas": 3, "sync": "always"},
        )
        app = Starlette(routes=routes.routes(), exception_handlers=EXCEPTION_HANDLERS)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest", headers=SERVICE)

    async def post(self, content: Any, kind: str | None = CONTENT_TYPE, **headers: str) -> httpx.Response:
        """POST /v1/events; what is not bytes yet becomes JSON."""
        given = content if isinstance(content, bytes) or hasattr(content, "__aiter__") else json.dumps(content).encode()
        sent = {**({"Content-Type": kind} if kind else {}), **headers}
        return await self.http.post("/v1/events", content=given, headers=sent)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.http:
        yield service


def refused(answer: httpx.Response, status: int, code: str) -> Any:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    return problem


async def test_an_event_is_answered_with_its_cursor(service: Service) -> None:
    document = event("ORDER_CREATED")
    answer = await service.post(document)
    assert answer.status_code == 200
    assert answer.json() == {"id": document["id"], "cursor": "MARKET.0mi7c3k9x.1", "duplicate": False}
    assert (await service.post(document)).json()["duplicate"] is True


async def test_an_answer_names_the_grade_of_its_durability(service: Service) -> None:
    assert (await service.post(event("ORDER_CREATED"))).headers["durability"] == "replicas=3; sync=always"


async def test_a_batch_is_answered_with_an_array_in_its_order(service: Service) -> None:
    documents = [event("ORDER_CREATED") for _ in range(3)]
    answer = await service.post(documents, BATCH_CONTENT_TYPE)
    assert [each["id"] for each in answer.json()] == [each["id"] for each in documents]
    assert [each["cursor"] for each in answer.json()] == [f"MARKET.0mi7c3k9x.{n}" for n in (1, 2, 3)]


async def test_a_batch_of_one_is_an_array_too(service: Service) -> None:
    assert len((await service.post([event("ORDER_CREATED")], BATCH_CONTENT_TYPE)).json()) == 1


@pytest.mark.parametrize(
    "kind",
    [
        CONTENT_TYPE,
        "application/json",
        "Application/CloudEvents+JSON",
        f"{CONTENT_TYPE}; charset=utf-8",
        f'{CONTENT_TYPE};charset="UTF-8"',
        f"{CONTENT_TYPE}; profile=x",
    ],
)
async def test_one_event_may_come_as(kind: str, service: Service) -> None:
    assert (await service.post(event("ORDER_CREATED"), kind)).status_code == 200


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/xml", f"{CONTENT_TYPE}; charset=latin-1"])
async def test_another_content_type_is_told_which_are_taken(kind: str | None, service: Service) -> None:
    problem = refused(await service.post(event("ORDER_CREATED"), kind), 415, "unsupported_media_type")
    assert BATCH_CONTENT_TYPE in problem["detail"]
    assert service.store.published == []


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "token"])
async def test_a_request_without_a_token_is_told_the_scheme(header: str, service: Service) -> None:
    answer = await service.post(event("ORDER_CREATED"), Authorization=header)
    refused(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_that_has_expired_is_told_so(service: Service) -> None:
    answer = await service.post(event("ORDER_CREATED"), **bearer("p", "service", expires_in=-1))
    refused(answer, 401, "token_expired")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_token_of_another_secret_is_not_valid(service: Service) -> None:
    forged = bearer("p", "service")["Authorization"][:-4] + "AAAA"
    refused(await service.post(event("ORDER_CREATED"), Authorization=forged), 401, "token_invalid")


@pytest.mark.parametrize("role", ["buyer", "node", "admin"])
async def test_no_other_role_may_publish(role: str, service: Service) -> None:
    refused(await service.post(event("ORDER_CREATED"), **bearer("p", role)), 403, "forbidden")
    assert service.store.published == []


async def test_the_scheme_is_read_whatever_its_case(service: Service) -> None:
    header = "bearer " + SERVICE["Authorization"].partition(" ")[2]
    assert (await service.post(event("ORDER_CREATED"), Authorization=header)).status_code == 200


async def test_a_failing_field_is_named_by_pointer_and_nothing_is_stored(service: Service) -> None:
    wrong = event("PAYMENT_SUCCEEDED", data={"amount": 12.5, "reference": ""})
    problem = refused(
        await service.post([event("ORDER_CREATED")] * 3 + [wrong], BATCH_CONTENT_TYPE), 422, "invalid_event"
    )
    assert [each["pointer"] for each in problem["errors"]] == ["/3/data/amount", "/3/data/reference"]
    assert all(each["detail"] for each in problem["errors"])
    assert problem["pointer"] == "/3/data/amount"
    assert service.store.published == []


@pytest.mark.parametrize("content", [b"{", b'{"data":NaN}', b'{"id":"\xff"}', b""])
async def test_what_is_not_json_is_told_so(content: bytes, service: Service) -> None:
    refused(await service.post(content), 400, "invalid_json")
    refused(await service.post(content, BATCH_CONTENT_TYPE), 400, "invalid_json")


async def test_an_empty_batch_is_refused(service: Service) -> None:
    assert refused(await service.post([], BATCH_CONTENT_TYPE), 422, "invalid_event")["errors"] == [
        {"pointer": "", "detail": "a batch has at least one event"}
    ]


async def test_more_events_than_allowed_are_too_large(service: Service) -> None:
    refused(await service.post([{}] * 501, BATCH_CONTENT_TYPE), 413, "message_too_large")


@pytest.mark.parametrize(
    ("kind", "limit"), [(CONTENT_TYPE, LARGEST_EVENT_BYTES), (BATCH_CONTENT_TYPE, BATCH_MAX_BYTES)]
)
async def test_a_body_that_declares_too_much_is_refused_unread(kind: str, limit: int, service: Service) -> None:
    assert str(limit) in refused(await service.post(b" " * (limit + 1), kind), 413, "message_too_large")["detail"]


@pytest.mark.parametrize(
    ("kind", "limit"), [(CONTENT_TYPE, LARGEST_EVENT_BYTES), (BATCH_CONTENT_TYPE, BATCH_MAX_BYTES)]
)
async def test_a_body_that_never_ends_is_refused_once_it_is_too_large(kind: str, limit: int, service: Service) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    refused(await service.post(endless(), kind), 413, "message_too_large")
    assert sent <= limit + 65_536
    assert service.bodies.held_bytes == 0


async def test_an_event_of_the_largest_size_is_taken(service: Service) -> None:
    document = event("ORDER_CREATED", data={"note": ""})
    size = len(json.dumps(document, separators=(",", ":")))
    document["data"]["note"] = "x" * (LARGEST_EVENT_BYTES - size)
    content = json.dumps(document, separators=(",", ":")).encode()
    assert len(content) == LARGEST_EVENT_BYTES
    assert (await service.post(content)).status_code == 200


async def test_an_event_too_large_for_the_stream_is_named_in_its_batch(service: Service) -> None:
    large = event("ORDER_CREATED", data={"note": "x" * LARGEST_EVENT_BYTES})
    problem = refused(await service.post([event("ORDER_CREATED"), large], BATCH_CONTENT_TYPE), 422, "invalid_event")
    assert problem["pointer"] == "/1"


async def test_a_body_that_is_too_slow_is_given_up() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    service = Service(seconds=0.05)
    async with service.http:
        assert refused(await service.post(stalled()), 400, "invalid_message")["retryable"] is True
    assert service.bodies.held_bytes == 0


async def test_bodies_that_are_together_too_much_wait_outside() -> None:
    document = event("ORDER_CREATED")
    service = Service(most_bytes=len(json.dumps(document)) + 10)
    service.store.open.clear()
    async with service.http:
        first = asyncio.create_task(service.post(document))
        await until(lambda: service.bodies.held_bytes > 0)
        answer = await service.post(document)
        refused(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "1"
        service.store.open.set()
        assert (await first).status_code == 200
        assert (await service.post(document)).status_code == 200


async def test_what_the_store_could_not_take_is_told_with_what_it_did(service: Service) -> None:
    service.store.problem = Problem(ErrorCode.STORE_UNAVAILABLE, "NATS is away", 1500)
    documents = [event("ORDER_CREATED") for _ in range(2)]
    answer = await service.post(documents, BATCH_CONTENT_TYPE)
    problem = refused(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert [each["id"] for each in problem["details"]["stored"]] == [documents[0]["id"]]


async def test_a_client_that_leaves_halfway_stores_nothing_and_holds_nothing() -> None:
    service = Service()
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", SERVICE["Authorization"].encode()), (b"content-type", CONTENT_TYPE.encode())]
    (route,) = Starlette(routes=service.http._transport.app.routes).routes  # type: ignore[attr-defined]
    scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": headers, "query_string": b""}
    await route.handle(scope, receive, send)
    assert sent[0]["status"] == 400
    assert service.store.published == []
    assert service.bodies.held_bytes == 0


async def test_refusals_are_counted_by_their_code(service: Service) -> None:
    await service.post(b"{")
    await service.post(b"{")
    await service.post([], BATCH_CONTENT_TYPE)
    count = service.metrics.get_sample_value
    assert count("refused_total", {"code": "invalid_json"}) == 2
    assert count("refused_total", {"code": "invalid_event"}) == 1


async def test_another_method_and_another_address_are_problems_too(service: Service) -> None:
    answer = await service.http.get("/v1/events")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    refused(await service.http.post("/v1/event"), 404, "not_found")
