"""Executors by their names, `module:factory`: what `A2A_PLAN_EXECUTOR` says."""

import importlib
from collections.abc import Callable
from typing import Any

# With the seconds between the example's steps; what it makes is a `services.plans.executor.PlanExecutor`.
Factory = Callable[[float], Any]


def load(name: str) -> Factory:
    """The factory of this name.

    Raises:
        ValueError: there is none.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} is not module:factory")
    try:
        found: object = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(f"{name!r}: {error}") from error
    if callable(found):
        return found
    raise ValueError(f"{module} has no callable {attribute!r}")
