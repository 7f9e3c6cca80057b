"""The trace that a request is part of (W3C Trace Context); a header that is none is passed over, never refused."""

import re

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(told: str | None) -> str | None:
    """The `traceparent` that a header told, if it told one."""
    return told if told is not None and _TRACEPARENT.fullmatch(told) else None
