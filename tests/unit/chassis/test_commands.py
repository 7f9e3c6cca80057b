"""Commands and queries over HTTP: what is judged before a service hears of it, and how it is told."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client import CollectorRegistry, Histogram
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette

from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import Principal
from contracts.publishing import derived_id
from services.chassis.auth import TokenVerifier
from services.chassis.bodies import Bodies
from services.chassis.commands import (
    COMMAND_EXCEPTION_HANDLERS,
    LARGEST_BODY_BYTES,
    Asked,
    Command,
    Delivery,
    Operations,
    Query,
    Webhook,
    parsed,
)
from services.chassis.openapi import document, openapi_route
from tests.harness.tokens import SECRET, bearer

CURSOR = Cursor("MARKET", "0mi7c3k9a", 7)


class Price(BaseModel):
    amount: str


class Paint(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: str = Field(min_length=1, examples=["blue"])
    price: Price | None = None


class Nothing(BaseModel):
    reason: str | None = None


@dataclass(frozen=True)
class Wall:
    wall_id: str
    colour: str


@dataclass(frozen=True)
class Done:
    id: str
    cursor: Cursor


@dataclass(frozen=True)
class Found:
    state: Wall
    cursor: Cursor


class Walls:
    """A service: remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked[Any]] = []
        self.delivered: list[Delivery] = []

    async def paint(self, asked: Asked[Paint]) -> Done:
        self.asked.append(asked)
        if asked.body.colour == "grey":
            raise Refused(Problem(ErrorCode.ORDER_CLOSED, "no grey"))
        return Done(asked.ids.get("wall") or derived_id("wall", asked.cause.key), CURSOR)

    async def look(self, principal: Principal, ids: Mapping[str, str]) -> Found:
        return Found(Wall(ids["wall"], principal.sub), CURSOR)

    async def deliver(self, delivery: Delivery) -> Done:
        self.delivered.append(delivery)
        return Done(parsed(Nothing, delivery.body).reason or "", CURSOR)

    def operations(self) -> list[Any]:
        return [
            Command(path="/v1/walls", summary="Build", body=Paint, handle=self.paint),
            Command(
                path="/v1/walls/{wall}/paint", summary="Paint", body=Paint, handle=self.paint,
                refusals=(ErrorCode.ORDER_CLOSED,),
            ),
            Command(path="/v1/walls/{wall}/burn", summary="Burn", body=Nothing, handle=self.burn),
            Query(path="/v1/walls/{wall}", summary="Look", answer=Wall, handle=self.look),
            Webhook(path="/v1/walls/{wall}/told", summary="Tell", body=Nothing, handle=self.deliver,
                    headers={"webhook-id": "the message"}),
        ]  # fmt: skip

    async def burn(self, asked: Asked[Nothing]) -> Done:
        raise RuntimeError("a bug")


@pytest.fixture
def walls() -> Walls:
    return Walls()


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def http(walls: Walls, metrics: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    seconds = Histogram("seconds", "s", ["operation", "outcome"], registry=metrics)
    bodies = Bodies(most_bytes=10**6, seconds=1)
    operations = Operations(walls.operations(), TokenVerifier(hs256_secret=SECRET), bodies, seconds)
    spec = document("walls", "Walls.", walls.operations())
    app = Starlette(routes=[*operations.routes(), openapi_route(spec)], exception_handlers=COMMAND_EXCEPTION_HANDLERS)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {**bearer("ada", "buyer"), "Idempotency-Key": "k1"}
    async with httpx.AsyncClient(transport=transport, base_url="http://walls", headers=headers) as client:
        yield client


async def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_command_is_handed_on_with_its_cause_and_answered_201(http: httpx.AsyncClient, walls: Walls) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await http.post("/v1/walls/w1/paint", json={"colour": "blue"}, headers={"traceparent": trace})
    assert (answer.status_code, answer.json()) == (201, {"id": "w1", "cursor": str(CURSOR)})
    assert answer.headers["cache-control"] == "no-store"
    (asked,) = walls.asked
    assert (asked.principal.sub, asked.ids, asked.key) == ("ada", {"wall": "w1"}, "k1")
    assert (asked.body, asked.cause.traceparent) == (Paint(colour="blue"), trace)


async def test_the_same_command_has_the_same_cause_and_makes_the_same_id(http: httpx.AsyncClient, walls: Walls) -> None:
    made = [(await http.post("/v1/walls", content=text)).json()["id"] for text in (
        '{"colour":"blue"}', '{ "price": null, "colour": "blue" }',
    )]  # fmt: skip
    other = await http.post("/v1/walls", json={"colour": "blue"}, headers={"Idempotency-Key": "k2"})
    stranger = await http.post("/v1/walls", json={"colour": "blue"}, headers=bearer("ben", "buyer"))
    changed = await http.post("/v1/walls", json={"colour": "red"})
    assert made[0] == made[1] == changed.json()["id"]
    assert len({made[0], other.json()["id"], stranger.json()["id"]}) == 3
    first, second, by_key, by_sub, by_body = (asked.cause for asked in walls.asked)
    assert first == second
    assert len({first.key, by_key.key, by_sub.key}) == 3
    assert (by_body.key == first.key, by_body.fingerprint == first.fingerprint) == (True, False)


@pytest.mark.parametrize("key", [None, "", " ", "k" * 129, "tab\tbed"])
async def test_a_command_without_a_good_key_is_refused(http: httpx.AsyncClient, walls: Walls, key: str | None) -> None:
    del http.headers["Idempotency-Key"]
    headers = {} if key is None else {"Idempotency-Key": key}
    assert await code(await http.post("/v1/walls", json={"colour": "blue"}, headers=headers)) == (
        400,
        "invalid_idempotency_key",
    )
    two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await http.post("/v1/walls", json={"colour": "blue"}, headers=two)).status_code == 400
    assert not walls.asked


@pytest.mark.parametrize("key", ["k", "k" * 128, "a b", '"quoted"', "~!{}"])
async def test_any_printable_key_is_good(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("/v1/walls", json={"colour": "blue"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 201


async def test_a_body_that_does_not_fit_is_told_by_pointers(http: httpx.AsyncClient, walls: Walls) -> None:
    answer = await http.post("/v1/walls", json={"colour": "", "price": {"amount": 1}, "x": 1})
    assert await code(answer) == (422, "invalid_command")
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/colour", "/price/amount", "/x"]
    assert answer.json()["pointer"] == "/colour"
    assert not walls.asked


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"{", (400, "invalid_json")),
        (b"\xff", (400, "invalid_json")),
        (b"[]", (422, "invalid_command")),
        (b"", (422, "invalid_command")),
        (b" " * (LARGEST_BODY_BYTES + 1), (413, "message_too_large")),
    ],
)
async def test_what_is_no_body_is_refused(http: httpx.AsyncClient, content: bytes, wanted: tuple[int, str]) -> None:
    assert await code(await http.post("/v1/walls", content=content)) == wanted


async def test_only_json_is_taken(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/walls", content=b"x", headers={"Content-Type": "text/plain"})
    assert await code(answer) == (415, "unsupported_media_type")


async def test_tokens_are_judged_first(http: httpx.AsyncClient) -> None:
    del http.headers["Authorization"]
    assert await code(await http.post("/v1/walls", content=b"{")) == (401, "unauthenticated")
    assert await code(await http.get("/v1/walls/w1")) == (401, "unauthenticated")
    answer = await http.get("/v1/walls/w1", headers={"Authorization": "Bearer x"})
    assert await code(answer) == (401, "token_invalid")


async def test_a_query_is_answered_with_its_cursor(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/walls/w1")
    assert answer.json() == {"state": {"wall_id": "w1", "colour": "ada"}, "cursor": str(CURSOR)}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("wall", ["a.b", "*", "%3E", "a b", "x" * 65, "-"])
async def test_what_is_no_id_is_not_found(http: httpx.AsyncClient, wall: str) -> None:
    assert await code(await http.get(f"/v1/walls/{wall}")) == (404, "not_found")
    assert await code(await http.post(f"/v1/walls/{wall}/paint", json={"colour": "b"})) == (404, "not_found")


async def test_refusals_and_bugs_are_problems_and_are_counted(
    http: httpx.AsyncClient, metrics: CollectorRegistry
) -> None:
    assert await code(await http.post("/v1/walls/w/paint", json={"colour": "grey"})) == (409, "order_closed")
    assert await code(await http.post("/v1/walls/w/burn")) == (500, "internal")
    for operation, outcome in (
        ("POST /v1/walls/{wall}/paint", "order_closed"),
        ("POST /v1/walls/{wall}/burn", "internal"),
    ):
        labels = {"operation": operation, "outcome": outcome}
        assert metrics.get_sample_value("seconds_count", labels) == 1


async def test_a_webhook_needs_no_token_and_is_handed_on_as_it_came(http: httpx.AsyncClient, walls: Walls) -> None:
    headers = {"webhook-id": "m1", "Authorization": ""}
    answer = await http.post("/v1/walls/w/told", content=b'{"reason": "r"}', headers=headers)
    assert (answer.status_code, answer.json()["id"]) == (201, "r")
    (delivery,) = walls.delivered
    assert (delivery.body, delivery.headers["webhook-id"], delivery.ids) == (b'{"reason": "r"}', "m1", {"wall": "w"})


async def test_the_openapi_document_has_every_operation(http: httpx.AsyncClient) -> None:
    spec = (await http.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(spec).validate()
    assert spec["openapi"].startswith("3.1")
    assert set(spec["paths"]) == {
        "/v1/walls", "/v1/walls/{wall}/paint", "/v1/walls/{wall}/burn", "/v1/walls/{wall}", "/v1/walls/{wall}/told",
    }  # fmt: skip
    paint = spec["paths"]["/v1/walls/{wall}/paint"]["post"]
    assert [one["name"] for one in paint["parameters"]] == ["wall", "Idempotency-Key"]
    body = paint["requestBody"]["content"]["application/json"]
    assert (body["example"], body["schema"]) == ({"colour": "blue"}, {"$ref": "#/components/schemas/Paint"})
    assert {"201", "400", "401", "404", "409", "413", "415", "422", "500", "503"} <= set(paint["responses"])
    assert "order_closed" in paint["responses"]["409"]["description"]
    assert "security" not in spec["paths"]["/v1/walls/{wall}/told"]["post"]
    text = json.dumps(spec)
    for reference in (part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]):
        assert reference in spec["components"]["schemas"]


def test_two_models_of_one_name_are_refused() -> None:
    other = type("Paint", (BaseModel,), {"__annotations__": {"other": int}})
    walls = Walls()
    with pytest.raises(ValueError, match="Paint"):
        document("w", "w", [*walls.operations(), Command(path="/o", summary="", body=other, handle=walls.paint)])
