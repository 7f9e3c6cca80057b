"""One real system for all features: real NATS, real gateway, free ports. Scenarios share it and use fresh ids."""

import tempfile
from pathlib import Path
from typing import Any

from tests.features.people import People
from tests.integration.local.system import RunningSystem


def before_all(context: Any) -> None:
    """Start the system."""
    context.folder = tempfile.TemporaryDirectory()
    context.system = RunningSystem(Path(context.folder.name), "--no-traffic")


def before_scenario(context: Any, _: Any) -> None:
    """Nobody is there yet."""
    context.people = People(context.system)


def after_scenario(context: Any, _: Any) -> None:
    """Everybody hangs up."""
    context.people.close()


def after_all(context: Any) -> None:
    """Stop the system; it has to end well."""
    if not hasattr(context, "system"):
        return
    end = context.system.stop()
    context.folder.cleanup()
    if end.code != 0:
        raise AssertionError(f"the system ended with {end.code}: {end.err}")
