"""Launching: what a service that takes tokens does around serving, from its settings to its exit code.

Where it cannot begin or go on it says why in one `error:` line, and ends with the code of a wrong setting.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.applications import Starlette

from services.chassis.auth import TokenVerifier
from services.chassis.http import BoundedHttp
from services.chassis.revocations import Revocations
from services.chassis.server import CannotListen, listen, run
from services.chassis.settings import TokenSettings, described, load, refuse, require_one_of
from services.chassis.telemetry import configure_logging

Settings = TypeVar("Settings", bound=TokenSettings)
OnFatal = Callable[[str], None]


@dataclass(frozen=True)
class Errand(Generic[Settings]):
    """What a service's command does in place of serving, where its option is given."""

    option: str
    choices: tuple[str, ...]
    help: str
    # With the choice; the exit code.
    run: Callable[[Settings, str], int]


def verifier_of(settings: TokenSettings) -> TokenVerifier:
    """The token verifier that the settings ask for; it serves once its `revocations` have been read.

    Raises:
        ValueError: the public key is not one, or cannot be read.
    """
    return TokenVerifier(
        hs256_secret=settings.jwt_hs256_secret,
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        roles=settings.domains.roles,
        revocations=Revocations(),
    )


def launch(
    name: str,
    kind: type[Settings],
    build: Callable[[Settings, TokenVerifier, OnFatal], Starlette],
    *,
    description: str,
    on_signal: Callable[[Starlette], None] = lambda app: None,
    leave: Callable[[Starlette, Callable[[], None]], Callable[[], None]] | None = None,
    graceful_seconds: int,
    http: type[BoundedHttp] = BoundedHttp,
    errand: Errand[Settings] | None = None,
    given: Sequence[str] | None = None,
) -> None:
    """Run service `name` until SIGTERM; `on_signal` is told of it first, with the app that `build` made.

    Where it is to serve on for a while, `leave` calls its second argument after that, and returns what hurries it.
    """
    choice = _read_arguments(name, kind, description, errand, given)
    settings = load(kind)
    configure_logging(name, settings.log_level, settings.region)
    if errand is not None and choice is not None:
        sys.exit(errand.run(settings, choice))
    verifier = _verifier(settings)
    try:
        listener = listen(settings.http_host, settings.http_port, settings.http_fd)
    except CannotListen as error:
        refuse(str(error))
    fatal: list[str] = []

    def on_fatal(reason: str) -> None:
        fatal.append(reason)
        os.kill(os.getpid(), signal.SIGTERM)  # uvicorn ends in order, and the reason is told below

    app = build(settings, verifier, on_fatal)

    def on_leaving(done: Callable[[], None]) -> Callable[[], None]:
        on_signal(app)
        if leave is not None and not fatal:  # what cannot go on does not serve on
            return leave(app, done)
        done()
        return done

    run(app, listener, http=http, graceful_seconds=graceful_seconds, leave=on_leaving)
    if fatal:
        refuse(fatal[0])


def _read_arguments(
    name: str,
    kind: type[Settings],
    description: str,
    errand: Errand[Settings] | None,
    given: Sequence[str] | None,
) -> str | None:
    """The errand's choice, if any; --help tells the settings."""
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{name}",
        description=description,
        epilog=f"settings, from the environment:\n{described(kind)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if errand is not None:
        parser.add_argument(errand.option, choices=errand.choices, dest="errand", help=errand.help)
    found: str | None = getattr(parser.parse_args(given), "errand", None)
    return found


def _verifier(settings: TokenSettings) -> TokenVerifier:
    require_one_of(
        (settings.jwt_hs256_secret, settings.jwt_public_key, settings.jwks_url),
        ("JWT_HS256_SECRET", "JWT_PUBLIC_KEY", "JWKS_URL"),
    )
    try:
        return verifier_of(settings)
    except ValueError as error:
        refuse(str(error))
