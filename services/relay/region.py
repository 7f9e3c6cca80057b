"""A region's role of a relay: its mirrors kept, how far they are behind, and whether that is too far."""

import time
from collections.abc import Mapping, Sequence

from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from contracts.topology import StreamSpec
from services.chassis.telemetry import logger
from services.relay.lateness import Lateness
from services.relay.regionmetrics import RegionMetrics
from services.relay.regionreport import RegionStreamReport
from services.relay.regions import RegionReconciler
from services.relay.steps import Retention

_log = logger(__name__)


class RegionRole:
    """What the relay of a region does and tells."""

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        registry: CollectorRegistry,
        *,
        region: str,
        hub_domain: str,
        retention: Retention,
        allow_replace: bool,
        stall_seconds: float,
        limit_seconds: float,
    ) -> None:
        self._specs = specs
        self._region = region
        self._hub_domain = hub_domain
        self._retention = retention
        self._allow_replace = allow_replace
        self._stall_seconds = stall_seconds
        self._metrics = RegionMetrics(registry)
        self._lateness = Lateness(limit_seconds)
        # None until NATS was reached.
        self._reconciler: RegionReconciler | None = None
        # What the last look found; None before the first.
        self._reports: list[RegionStreamReport] | None = None
        # When the hub last answered, in monotonic seconds; None before the first time.
        self._linked_at: float | None = None
        self._is_linked = False
        # A mirror reserves nothing that must be there before the first event.
        self.no_room: str | None = None

    def attach(self, client: Client) -> None:
        """The region's NATS was reached."""
        self._reconciler = RegionReconciler(
            client,
            self._specs,
            region=self._region,
            hub_domain=self._hub_domain,
            retention=self._retention,
            allow_replace=self._allow_replace,
            stall_seconds=self._stall_seconds,
        )

    async def round(self) -> None:
        """One look.

        Raises:
            nats.errors.Error: the region's own NATS does not answer.
        """
        if self._reconciler is None:
            return
        reports = await self._reconciler.round()
        is_first, self._reports = self._reports is None, reports
        self._measure(reports, time.monotonic())
        self._metrics.observe(reports, self._is_linked, self._lateness)
        for reason in _told(reports):
            _log.error("not_as_declared", reason=reason)
        if is_first:
            _log.info("converged" if self.failing() is None else "not_converged", **self.facts())

    def failed(self) -> None:
        """A look was not answered by the region's own NATS."""
        self._metrics.failed()

    def _measure(self, reports: Sequence[RegionStreamReport], now: float) -> None:
        was, self._is_linked = self._is_linked, all(report.is_linked for report in reports)
        if self._is_linked:
            self._linked_at = now
        if was != self._is_linked:
            (_log.info if self._is_linked else _log.warning)("link", hub="answers" if self._is_linked else "is away")
        if self._linked_at is not None:
            lags = (report.look.lag_seconds for report in reports if report.look is not None)
            was_late = self._lateness.is_late
            self._lateness.see(max(now - self._linked_at, *lags, 0.0))
            if was_late != self._lateness.is_late:
                _log.warning("lateness", is_late=self._lateness.is_late, behind_seconds=self._lateness.behind_seconds)

    def failing(self) -> str | None:
        """Why the region is not to be used."""
        if self._reports is None:
            return "the mirrors have not been read yet"
        missing = [f"{report.name}: there is no mirror" for report in self._reports if report.mirror is None]
        late = self._lateness.reason
        return "; ".join([*_told(self._reports), *missing, *([late] if late else [])]) or None

    def facts(self) -> Mapping[str, object]:
        """What `/readyz` tells beside that."""
        reports = self._reports or []
        behind = self._lateness.behind_seconds
        return {
            "hub": "answers" if self._is_linked else "is away",
            "behind_seconds": None if behind is None else round(behind, 3),
            "epochs": {report.name: report.mirror.epoch for report in reports if report.mirror is not None},
        }


def _told(reports: Sequence[RegionStreamReport]) -> list[str]:
    return [f"{report.name}: {reason}" for report in reports for reason in report.wrong]
