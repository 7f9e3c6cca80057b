"""The contracts as they are served."""

from importlib.resources import files

import httpx
import jsonschema
import pytest
from starlette.applications import Starlette

from contracts.registry import REGISTRY
from services.chassis.catalogue import catalogue_routes


async def get(path: str) -> httpx.Response:
    app = Starlette(routes=catalogue_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_the_list_names_every_contract_and_where_it_is() -> None:
    answer = await get("/v1/contracts")
    listed = {(entry["type"], entry["version"]): entry for entry in answer.json()["contracts"]}
    assert set(listed) == {(contract.type, contract.version) for contract in REGISTRY}
    assert "max-age" in answer.headers["cache-control"]
    for entry in listed.values():
        found = (await get(entry["href"])).json()
        assert found["$id"] == entry["dataschema"]


async def test_a_contract_is_served_as_it_was_committed_with_an_example_that_fits() -> None:
    answer = await get("/v1/contracts/ORDER_CREATED/1")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.content == files("contracts.schemas").joinpath("ORDER_CREATED.1.json").read_bytes()
    jsonschema.validate(answer.json()["examples"][0], answer.json())


@pytest.mark.parametrize("path", ["ORDER_CREATED/2", "order_created/1", "X/1", "..%2F__init__/1", "ORDER_CREATED/01"])
async def test_a_contract_that_is_not_there_is_404_as_a_problem(path: str) -> None:
    answer = await get(f"/v1/contracts/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json" or "%2F" in path
