"""Health: `/livez`, `/readyz`, `/metrics`, the same on every service (PROTOCOL §7)."""

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

# Name of a check -> None where it holds, else why it does not.
Checks = Mapping[str, Callable[[], str | None]]


def health_routes(
    checks: Checks, registry: CollectorRegistry, facts: Callable[[], Mapping[str, object]]
) -> list[Route]:
    """The three routes; `facts` is told in `/readyz` beside the checks (region, durability)."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        failing = {name: reason for name, check in checks.items() if (reason := check()) is not None}
        verdict = {"ready": not failing, "failing": failing}
        # Twice: it comes first for people, and no fact may overrule it.
        return JSONResponse({**verdict, **facts(), **verdict}, 503 if failing else 200, {"Cache-Control": "no-store"})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
