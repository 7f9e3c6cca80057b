"""The domains that a service knows: the market's, and those named in `A2A_DOMAINS` (DESIGN decision 14).

The one place that imports a module by a name from outside; done once, at the root.
"""

import importlib
from collections.abc import Iterable

from contracts.domain import MARKET_DOMAIN, Domain, InvalidDomain


def load(modules: Iterable[str]) -> Domain:
    """The market's domain, joined with the `DOMAIN` of each module.

    Raises:
        ValueError: one line that says which module does not fit, and why.
    """
    try:
        found = MARKET_DOMAIN.joined_with(map(_domain_of, modules))
    except InvalidDomain as error:
        raise ValueError(str(error)) from error
    if found.events:
        _judge(found)
    return found


def _judge(domain: Domain) -> None:
    # Imported here, since without a further domain not every service needs the models of events.
    from contracts.schemas.event import misfits  # noqa: PLC0415

    for problem in misfits(domain.events):
        raise ValueError(f"{domain.name}: {problem}")


def _domain_of(module: str) -> Domain:
    try:
        found = getattr(importlib.import_module(module), "DOMAIN", None)
    except ImportError as error:
        raise ValueError(f"{module} cannot be imported: {error}") from error
    except Exception as error:  # whatever the module does
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(found, Domain):
        return found
    raise ValueError(f"{module} has no DOMAIN of contracts.domain.Domain")
