"""Arrivals: how fast one address may open connections (PROTOCOL §9)."""

from collections import OrderedDict
from collections.abc import Callable

from contracts.errors import ErrorCode, Problem
from services.gateway.core.limits import TokenBucket

# Addresses that are remembered, some 16 MiB; of more at once the one seen longest ago begins anew.
_MOST_ADDRESSES = 65_536


class Arrivals:
    """A rate with a burst for each address."""

    def __init__(self, rate: float, burst: int, now: Callable[[], float]) -> None:
        """`rate` in connections a second; 0 is without limit."""
        self._rate = rate
        self._burst = burst
        self._now = now
        # The address seen longest ago first.
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def refusal(self, address: str | None) -> Problem | None:
        """Count one connection from `address`; why it comes too soon, if it does."""
        if not self._rate or address is None:
            return None
        now, bucket = self._now(), self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._burst, now)
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        wait = bucket.take(self._rate, self._burst, now)
        if not wait:
            return None
        return Problem(ErrorCode.RATE_LIMITED, "too many connections from this address", int(wait * 1000) + 1)
