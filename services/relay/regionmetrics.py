"""The figures of a region's relay. A stream's name is a label: there are as many as the topology has."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.relay.lateness import Lateness
from services.relay.regionreport import RegionStreamReport


class RegionMetrics:
    """What `/metrics` tells of a region's mirrors and its link."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"a2a_mirror_{name}", what, ["stream"], registry=registry)

        self._last = gauge("last_sequence", "Sequence of the last event in the mirror")
        self._messages = gauge("messages", "Events in the mirror")
        self._bytes = gauge("bytes", "Bytes in the mirror")
        self._lag_messages = gauge("lag_messages", "Sequences that the mirror is behind the hub")
        self._lag_seconds = gauge("lag_seconds", "Age of the oldest event that the mirror lacks")
        self._active = gauge("active_seconds", "Since the mirror last heard of the hub")
        self._pending = gauge("pending_messages", "Events that the hub has not sent to the mirror")
        self._as_declared = gauge(
            "as_declared", "1 where the mirror is there and nothing is wrong with it, 0 where not"
        )
        self._linked = Gauge("a2a_region_linked", "1 where the hub answers, 0 where not", registry=registry)
        self._behind = Gauge(
            "a2a_region_behind_seconds",
            "How far the region is behind the hub; -1 before it was reached",
            registry=registry,
        )
        self._behind.set(-1)
        self._late = Gauge("a2a_region_late", "1 where that is too far, 0 where not", registry=registry)
        self._rounds = Counter("a2a_relay_reconciliations", "Looks at the site", ["outcome"], registry=registry)
        self._repairs = Counter("a2a_relay_repairs", "Mirrors made again", ["stream", "reason"], registry=registry)

    def failed(self) -> None:
        """A round that the region's NATS did not answer."""
        self._rounds.labels("failed").inc()

    def observe(self, reports: Iterable[RegionStreamReport], is_linked: bool, lateness: Lateness) -> None:
        """Take in what a round found and did."""
        reports = list(reports)
        outcome = "converged" if all(report.is_as_declared for report in reports) else "refused"
        self._rounds.labels(outcome if is_linked else "unlinked").inc()
        self._linked.set(is_linked)
        self._late.set(lateness.is_late)
        if lateness.behind_seconds is not None:
            self._behind.set(lateness.behind_seconds)
        for report in reports:
            self._observe_one(report)

    def _observe_one(self, report: RegionStreamReport) -> None:
        name = report.name
        self._as_declared.labels(name).set(report.is_as_declared)
        if report.repaired is not None:
            self._repairs.labels(name, report.repaired).inc()
        if report.mirror is None or report.look is None:
            return
        self._last.labels(name).set(report.mirror.last)
        self._messages.labels(name).set(report.mirror.messages)
        self._bytes.labels(name).set(report.look.size_bytes)
        if report.look.active_seconds is not None:
            self._active.labels(name).set(report.look.active_seconds)
        if not report.is_linked:
            return  # what the hub would tell is as it was, not zero
        self._lag_messages.labels(name).set(report.look.lag_messages)
        self._lag_seconds.labels(name).set(report.look.lag_seconds)
        if report.look.pending is not None:
            self._pending.labels(name).set(report.look.pending)
