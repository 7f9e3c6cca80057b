"""`python -m services.gateway`: a replica that brings its clients from their cursors to live, until SIGTERM."""

import gc
from collections.abc import Sequence

from starlette.applications import Starlette

from services.chassis.auth import TokenVerifier
from services.chassis.launch import OnFatal, launch
from services.gateway.app import build
from services.gateway.settings import GatewaySettings
from services.gateway.transports.takeover import GatewayHttp

# Clients answer a close at once; who does not is cut off.
_GRACEFUL_SECONDS = 2
_YOUNG_OBJECTS = 20_000


def _build(settings: GatewaySettings, verifier: TokenVerifier, on_fatal: OnFatal) -> Starlette:
    app = build(settings, verifier, on_fatal)
    gc.freeze()  # what is loaded by now lives as long as the process: the collector need not look at it
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)  # entries are made by the thousand and form no cycles
    return app


def main(given: Sequence[str] | None = None) -> None:
    """Run the replica; one `error:` line and exit code 2 where it cannot."""
    launch(
        "gateway",
        GatewaySettings,
        _build,
        description="Pushes the events of the streams to WebSocket and SSE clients, to each only what is theirs.",
        leave=lambda app, done: app.state.leave(done),
        graceful_seconds=_GRACEFUL_SECONDS,
        http=GatewayHttp,
        given=given,
    )


if __name__ == "__main__":
    main()
