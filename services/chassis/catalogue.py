"""The contracts over HTTP (PROTOCOL §7): `/v1/contracts`, each of them, `/v1/asyncapi.json`, and `/docs` to read.

Serves the files that were reviewed, so what a consumer reads is what is in git; what other domains add is
rendered from their declarations.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.domain import MARKET_DOMAIN, Domain
from contracts.errors import ErrorCode, Problem
from contracts.registry import REGISTRY
from contracts.schemas import asyncapi
from contracts.schemas.event import schema
from services.chassis.docspage import page
from services.chassis.problems import problem_response

_CACHE = {"Cache-Control": "public, max-age=300"}

Schemas = dict[tuple[str, int], bytes]


def catalogue_routes(domain: Domain = MARKET_DOMAIN) -> list[Route]:
    """The routes, over all events and channels that the service knows."""
    schemas = _committed() | _rendered(domain)
    listing = {"contracts": _listing(schemas), "links": {"asyncapi": "/v1/asyncapi.json", "docs": "/docs"}}

    async def contracts(_: Request) -> Response:
        return JSONResponse(listing, headers=_CACHE)

    async def contract(request: Request) -> Response:
        kind, version = request.path_params["type"], request.path_params["version"]
        text = schemas.get((kind, int(version))) if _is_canonical(version) else None
        if text is None:
            return problem_response(Problem(ErrorCode.NOT_FOUND, "no such contract; GET /v1/contracts lists them"))
        return Response(text, media_type="application/schema+json", headers=_CACHE)

    async def described(_: Request) -> Response:
        return Response(_document(domain), media_type="application/vnd.aai.asyncapi+json", headers=_CACHE)

    # Made when first asked for: most replicas never are.
    @cache
    def made() -> tuple[bytes, str]:
        return page(json.loads(_document(domain)))

    async def docs(_: Request) -> Response:
        html, policy = made()
        head = {**_CACHE, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return Response(html, media_type="text/html", headers=head)

    return [
        Route("/v1/contracts", contracts),
        Route("/v1/contracts/{type}/{version}", contract),
        Route("/v1/asyncapi.json", described),
        Route("/docs", docs),
    ]


def _committed() -> Schemas:
    found = {}
    for file in files("contracts.schemas").iterdir():
        kind, _, rest = file.name.partition(".")
        version, _, ending = rest.partition(".")
        if ending == "json" and _is_canonical(version):
            found[kind, int(version)] = file.read_bytes()
    return found


def _rendered(domain: Domain) -> Schemas:
    return {(one.type, one.version): json.dumps(schema(one), ensure_ascii=False).encode() for one in domain.events}


def _document(domain: Domain) -> bytes:
    if domain == MARKET_DOMAIN:
        return files("contracts.schemas").joinpath("asyncapi.json").read_bytes()
    document = asyncapi.document(domain, [*REGISTRY, *domain.events])
    return json.dumps(document, ensure_ascii=False).encode()


def _listing(schemas: Schemas) -> list[dict[str, Any]]:
    newest: dict[str, int] = {}
    for kind, version in schemas:
        newest[kind] = max(version, newest.get(kind, 0))
    return [
        {
            "type": kind,
            "version": version,
            "dataschema": json.loads(text)["$id"],
            "href": _href(kind, version),
            "deprecated": version < newest[kind],
            **({"newer": _href(kind, newest[kind])} if version < newest[kind] else {}),
        }
        for (kind, version), text in sorted(schemas.items())
    ]


def _href(kind: str, version: int) -> str:
    return f"/v1/contracts/{kind}/{version}"


def _is_canonical(version: str) -> bool:
    """One way of writing each number, so that a contract has one address."""
    return version.isascii() and version.isdigit() and not version.startswith("0") and len(version) < 6
