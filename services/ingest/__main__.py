"""`python -m services.ingest`: read the settings, take the port, serve until SIGTERM."""

import argparse
import os
import signal
from collections.abc import Sequence

from services.chassis.server import CannotListen, listen, run
from services.chassis.settings import described, load, refuse, require_one_of
from services.chassis.telemetry import configure_logging
from services.ingest.app import build, verifier_of
from services.ingest.settings import IngestSettings

# Time for what is under way: a publish with all its tries takes six and a half seconds.
_GRACEFUL_SECONDS = 8


def main(given: Sequence[str] | None = None) -> None:
    """Run the service; one `error:` line and exit code 2 where it cannot."""
    argparse.ArgumentParser(
        prog="python -m services.ingest",
        description=__doc__,
        epilog=f"settings, from the environment:\n{described(IngestSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(given)
    settings = load(IngestSettings)
    configure_logging("ingest", settings.log_level)
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
    run(app, listener, graceful_seconds=_GRACEFUL_SECONDS, on_signal=lambda: setattr(app.state, "draining", True))
    if fatal:
        refuse(fatal[0])


if __name__ == "__main__":
    main()
