"""`python -m services.gateway`: read the settings, take the port, serve until SIGTERM."""

import gc
import os
import signal

from services.chassis.server import CannotListen, listen, run
from services.chassis.settings import load, refuse, require_one_of
from services.chassis.telemetry import configure_logging
from services.gateway.app import build, verifier_of
from services.gateway.settings import GatewaySettings
from services.gateway.transports.takeover import GatewayHttp

# Clients answer a close at once; who does not is cut off.
_GRACEFUL_SECONDS = 2
_YOUNG_OBJECTS = 20_000


def main() -> None:
    """Run the replica; one `error:` line and exit code 2 where it cannot."""
    settings = load(GatewaySettings)
    configure_logging("gateway", settings.log_level)
    require_one_of(
        (settings.jwt_hs256_secret, settings.jwt_public_key, settings.jwks_url),
        ("JWT_HS256_SECRET", "JWT_PUBLIC_KEY", "JWKS_URL"),
    )
    try:
        verifier = verifier_of(settings)
    except (ValueError, OSError) as error:
        refuse(f"A2A_JWT_PUBLIC_KEY: {error}")
    try:
        listener = listen(settings.http_host, settings.http_port, settings.http_fd)
    except CannotListen as error:
        refuse(str(error))
    fatal: list[str] = []

    def on_fatal(reason: str) -> None:
        fatal.append(reason)
        os.kill(os.getpid(), signal.SIGTERM)  # uvicorn ends in order, and the reason is told below

    app = build(settings, verifier, on_fatal=on_fatal)
    gc.freeze()  # what is loaded by now lives as long as the process: the collector need not look at it
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)  # entries are made by the thousand and form no cycles
    run(
        app,
        listener,
        http=GatewayHttp,
        graceful_seconds=_GRACEFUL_SECONDS,
        on_signal=lambda: setattr(app.state.replica, "draining", True),
    )
    if fatal:
        refuse(fatal[0])


if __name__ == "__main__":
    main()
