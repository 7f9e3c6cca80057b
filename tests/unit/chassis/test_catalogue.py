"""The contracts as they are served."""

import base64
import hashlib
import json
from html.parser import HTMLParser
from importlib.resources import files

import httpx
import jsonschema
import pytest
from starlette.applications import Starlette

from contracts.channels import CHANNELS
from contracts.errors import ErrorCode
from contracts.registry import REGISTRY
from services.chassis.catalogue import catalogue_routes
from services.chassis.docspage import page


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


async def test_the_list_says_what_is_deprecated_and_what_is_newer() -> None:
    listed = {(one["type"], one["version"]): one for one in (await get("/v1/contracts")).json()["contracts"]}
    old, new = listed["NEGOTIATION_STARTED", 1], listed["NEGOTIATION_STARTED", 2]
    assert (old["deprecated"], old["newer"]) == (True, new["href"])
    assert new["deprecated"] is False
    assert "newer" not in new
    assert (await get(old["href"])).json()["deprecated"] is True


async def test_the_list_links_to_the_whole_description() -> None:
    for link in (await get("/v1/contracts")).json()["links"].values():
        assert (await get(link)).status_code == 200


async def test_the_asyncapi_document_is_served_as_it_was_committed() -> None:
    answer = await get("/v1/asyncapi.json")
    assert answer.content == files("contracts.schemas").joinpath("asyncapi.json").read_bytes()
    assert answer.headers["content-type"] == "application/vnd.aai.asyncapi+json"


class _Page(HTMLParser):
    """What a page is made of, and whether its elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        assert not {name for name in found if name.startswith("on") or name in ("style", "src")}
        self.ids.add(found.get("id") or "")
        self.links.add(found.get("href") or "#")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_tells_every_event_channel_and_code_and_needs_nothing_from_elsewhere() -> None:
    answer = await get("/docs")
    found = _Page()
    found.feed(answer.text)
    assert found.open == []
    assert not found.tags & {"script", "link", "img", "iframe", "form"}
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert all(link.startswith(("#", "/v1/")) for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= found.ids
    for contract in REGISTRY:
        assert f"{contract.type}.{contract.version}" in found.ids
        assert f"/v1/contracts/{contract.type}/{contract.version}" in found.links
    for kind in CHANNELS:
        assert f"{kind.name}:{kind.only_id or '{id}'}" in found.text
    for code in ErrorCode:
        assert code.wire in found.text


async def test_the_pages_style_is_the_one_that_its_policy_allows() -> None:
    answer = await get("/docs")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_what_a_declaration_says_cannot_become_markup() -> None:
    hostile = json.loads(files("contracts.schemas").joinpath("asyncapi.json").read_text())
    hostile["info"]["title"] = "<script>alert(1)</script>"
    hostile["channels"]["buyer"]["address"] = '"><img src=x onerror=alert(1)>'
    hostile["components"]["messages"]["ORDER_CREATED.1"]["summary"] = "`</code><script>`"
    found = _Page()
    found.feed(page(hostile)[0].decode())
    assert not found.tags & {"script", "img"}
