"""The relay's figures. A stream's name is a label: there are as many as the topology has."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.relay.report import StreamReport


class RelayMetrics:
    """What `/metrics` tells of the streams and of the relay's own work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"a2a_stream_{name}", what, ["stream"], registry=registry)

        self._first = gauge("first_sequence", "Sequence of the first stored event")
        self._last = gauge("last_sequence", "Sequence of the last stored event")
        self._messages = gauge("messages", "Stored events")
        self._bytes = gauge("bytes", "Bytes stored")
        self._lag_messages = gauge("mirror_lag_messages", "Sequences that the replay mirror is behind")
        self._lag_seconds = gauge("mirror_lag_seconds", "Age of the oldest event that the replay mirror lacks")
        self._as_declared = gauge("as_declared", "1 where the stream is as the topology says, 0 where not")
        self._rounds = Counter("a2a_relay_reconciliations", "Looks at the site", ["outcome"], registry=registry)
        self._repairs = Counter(
            "a2a_relay_repairs", "Replay mirrors made again", ["stream", "reason"], registry=registry
        )
        self._corrections = Counter(
            "a2a_relay_corrections", "Settings of streams and mirrors corrected", ["stream"], registry=registry
        )

    def failed(self) -> None:
        """A round that NATS did not answer."""
        self._rounds.labels("failed").inc()

    def observe(self, reports: Iterable[StreamReport]) -> None:
        """Take in what a round found and did."""
        reports = list(reports)
        self._rounds.labels("converged" if all(report.is_as_declared for report in reports) else "refused").inc()
        for report in reports:
            self._observe_one(report)

    def _observe_one(self, report: StreamReport) -> None:
        name = report.name
        self._as_declared.labels(name).set(report.is_as_declared)
        self._corrections.labels(name).inc(len(report.corrected))
        if report.repaired is not None:
            self._repairs.labels(name, report.repaired).inc()
        if report.stream is not None:
            self._first.labels(name).set(report.stream.first)
            self._last.labels(name).set(report.stream.last)
            self._messages.labels(name).set(report.stream.messages)
            self._bytes.labels(name).set(report.size_bytes)
        if report.mirror is not None:
            self._lag_messages.labels(name).set(report.mirror.lag_messages)
            self._lag_seconds.labels(name).set(report.mirror.lag_seconds)
