"""Query parameters: numbers and moments as clients write them; what is none is `invalid_parameter`."""

import math
import re

from starlette.requests import Request

from contracts.errors import ErrorCode, Problem, Refused
from services.gateway.core.replay import time_ns_of

# `float` takes more than what a client may mean: underscores, exponents, other scripts' digits.
_PLAIN_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def number(request: Request, name: str, default: float, least: float, most: float) -> float:
    """One parameter within its bounds; whole where its default is.

    Raises:
        Refused: it is not.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    value = float(text) if _PLAIN_NUMBER.fullmatch(text) else math.nan
    if not least <= value <= most or (isinstance(default, int) and value != int(value)):
        raise Refused(Problem(ErrorCode.INVALID_PARAMETER, f"{name} is a number from {least:g} to {most:g}"))
    return value


def moment(text: str) -> float | None:
    """Unix seconds of a time of RFC 3339; None where it is none."""
    found = time_ns_of(text)
    return None if found is None else found / 1e9
