"""Moments: RFC 3339 text with an offset (PROTOCOL §3), as the JSON Schemas' `date-time` says.

pydantic by itself would also take numbers, which readers in other languages do not.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _is_rfc3339(value: object) -> object:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC3339.fullmatch(value)):
        raise ValueError("not an RFC 3339 time like 2026-11-20T10:00:00Z")
    return value


def _is_utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc3339)]
UtcMoment = Annotated[Moment, AfterValidator(_is_utc)]
