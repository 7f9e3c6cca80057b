"""One real system for all features: real NATS, real gateway, free ports. Scenarios share it and use fresh ids."""

import tempfile
from pathlib import Path
from typing import Any

from tests.features.attendance import Attendance
from tests.features.people import People
from tests.features.trade import Trade
from tests.harness.dealing import WEBHOOK_SECRET
from tests.integration.local.system import RunningSystem


def before_all(context: Any) -> None:
    """Start the system."""
    context.folder, context.system = start()


def start(*arguments: str) -> tuple[tempfile.TemporaryDirectory[str], RunningSystem]:
    """A system and the folder it keeps."""
    folder = tempfile.TemporaryDirectory()
    # A quiet stream is told so after a second: nobody waits for the quarter of a minute that it takes by default.
    settings = {
        "A2A_PAYMENT_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "A2A_SSE_IDLE_S": "1",
        "A2A_TASK_IDLE_S": "1",
        "A2A_PLAN_STEP_S": "0.05",
    }
    return folder, RunningSystem(Path(folder.name), "--no-traffic", *arguments, environment=settings)


def before_feature(context: Any, feature: Any) -> None:
    """Features of regions have a system with two; it hides the other until the feature ends."""
    if "regions" in feature.tags:
        context.folder, context.system = start("--regions", "eu,us")


def after_feature(context: Any, feature: Any) -> None:
    """What a feature started it stops."""
    if "regions" in feature.tags:
        stop(context)


def before_scenario(context: Any, _: Any) -> None:
    """Nobody is there yet."""
    context.people = People(context.system)
    context.trade = Trade(context.system, context.people)
    context.attendance = Attendance(context.system, context.people)


def after_scenario(context: Any, _: Any) -> None:
    """Everybody hangs up."""
    context.people.close()
    context.trade.close()
    context.attendance.close()


def after_all(context: Any) -> None:
    """Stop the system; it has to end well."""
    if not hasattr(context, "system"):
        return
    stop(context)


def stop(context: Any) -> None:
    """Stop the system; it has to end well."""
    end = context.system.stop()
    context.folder.cleanup()
    if end.code != 0:
        raise AssertionError(f"the system ended with {end.code}: {end.err}")
