"""Which version of A2A a request speaks: `A2A-Version`, as a header or a query parameter; without one 0.3."""

import re

from starlette.requests import Request

from services.gateway.a2a.faults import Kind, failed
from services.gateway.transports.identity import header

V1, V03 = "1.0", "0.3"
_OF = re.compile(r"(1)(?:\.0(?:\.\d{1,6})?)?|(0\.3)(?:\.\d{1,6})?", re.ASCII)


def version_of(request: Request) -> str:
    """`V1` or `V03`; patch versions do not matter.

    Raises:
        Failed: it is another.
    """
    told = (header(request, b"a2a-version") or request.query_params.get("A2A-Version") or V03).strip()
    found = _OF.fullmatch(told)
    if found is None:
        raise failed(Kind.VERSION_NOT_SUPPORTED, f"A2A-Version {told[:20]!r} is not supported; {V1} and {V03} are")
    return V1 if found[1] else V03
