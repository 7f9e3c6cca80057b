"""What the gateway asks of services/plans: one NATS request each (DESIGN decision 10; contracts/planrequests.py).

They work through a leaf, so a region needs no plans service of its own. The client's token goes along, and the
service judges it again. Bounded in time and in number; nothing is tried twice, since a start may have happened.
"""

from typing import TypeVar

import msgspec
import nats.errors

from contracts.errors import ErrorCode, Problem, Refused
from contracts.planrequests import SUBJECTS, PlanAnswer, PlanRequest, PlansAnswer, Refusal, read_answer
from services.gateway.bus.site import NotConnected, Site

_SECONDS = 5.0
_MOST_IN_FLIGHT = 256
_RETRY_MS = 1000
_CODES = {code.wire: code for code in ErrorCode}

Answer = TypeVar("Answer", PlanAnswer, PlansAnswer)


class PlanRequests:
    """The plans service, as one replica reaches it."""

    def __init__(self, site: Site, *, seconds: float = _SECONDS) -> None:
        self._site = site
        self._seconds = seconds
        self._in_flight = 0

    async def ask(self, request: PlanRequest, kind: type[Answer], token: str, traceparent: str | None = None) -> Answer:
        """What the service answers.

        Raises:
            Refused: as the service refuses; `unavailable` where it does not answer, `rate_limited`.
        """
        if self._in_flight >= _MOST_IN_FLIGHT:
            raise _refused(ErrorCode.RATE_LIMITED, "too much is asked of the plans service at once")
        headers = {"Authorization": f"Bearer {token}"}
        if traceparent is not None:
            headers["traceparent"] = traceparent
        self._in_flight += 1
        try:
            answer = await self._site.client.request(
                SUBJECTS[type(request)], msgspec.json.encode(request), timeout=self._seconds, headers=headers
            )
            found = read_answer(answer.data, kind)
        except (NotConnected, nats.errors.Error, TimeoutError, OSError) as error:
            raise _refused(ErrorCode.UNAVAILABLE, "the plans service does not answer") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refused(ErrorCode.INTERNAL, "the plans service answered what cannot be read") from error
        finally:
            self._in_flight -= 1
        if isinstance(found, kind):
            return found
        raise _refusal(found)


def _refusal(found: object) -> Refused:
    assert isinstance(found, Refusal)  # noqa: S101  # `read_answer` has nothing else
    error = found.error
    code = _CODES.get(error.code, ErrorCode.INTERNAL)
    return Refused(Problem(code, error.message, error.retry_after_ms, error.retryable, dict(error.details or {})))


def _refused(code: ErrorCode, why: str) -> Refused:
    return Refused(Problem(code, why, _RETRY_MS))
