"""The committed contracts over HTTP: `GET /v1/contracts` and `/v1/contracts/{type}/{version}` (PROTOCOL §7).

Serves the files that were reviewed, so what a consumer reads is what is in git.
"""

import json
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.errors import ErrorCode, Problem
from services.chassis.problems import problem_response

_CACHE = {"Cache-Control": "public, max-age=300"}


def catalogue_routes() -> list[Route]:
    """Both routes, read once from the package's schema files."""
    schemas: dict[tuple[str, str], bytes] = {}
    for file in files("contracts.schemas").iterdir():
        kind, _, rest = file.name.partition(".")
        version, _, ending = rest.partition(".")
        if ending == "json" and version.isdigit():
            schemas[kind, version] = file.read_bytes()
    listing = [
        {
            "type": kind,
            "version": int(version),
            "dataschema": json.loads(text)["$id"],
            "href": f"/v1/contracts/{kind}/{version}",
        }
        for (kind, version), text in sorted(schemas.items())
    ]

    async def contracts(_: Request) -> Response:
        return JSONResponse({"contracts": listing}, headers=_CACHE)

    async def contract(request: Request) -> Response:
        text = schemas.get((request.path_params["type"], request.path_params["version"]))
        if text is None:
            return problem_response(Problem(ErrorCode.NOT_FOUND, "no such contract; GET /v1/contracts lists them"))
        return Response(text, media_type="application/schema+json", headers=_CACHE)

    return [Route("/v1/contracts", contracts), Route("/v1/contracts/{type}/{version}", contract)]
