"""The gateway's metrics, read from the running totals when somebody asks; no id ever becomes a label."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.core.eventstream import EventStream
from services.gateway.core.replica import Replica


class GatewayCollector(Collector):
    """Reads one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def collect(self) -> Iterator[Metric]:
        """Every figure, as of now."""
        tally = self._replica.tally
        yield CounterMetricFamily("a2a_deliveries", "Events written to clients.", tally.deliveries)
        yield CounterMetricFamily("a2a_feed_events", "Events read from the streams' ends.", tally.feed_events)
        yield CounterMetricFamily("a2a_feed_resets", "Times a feed had to make its consumer again.", tally.feed_resets)
        yield CounterMetricFamily(
            "a2a_not_events", "Stored messages that are no events; never delivered.", tally.not_events
        )
        yield _by("a2a_connections_opened", "Connections opened.", "transport", tally.opened)
        yield _by("a2a_connections_closed", "Connections the gateway closed, by reason.", "reason", tally.closed)
        yield _by("a2a_problems", "Errors told to clients.", "code", tally.problems)
        yield _by("a2a_gaps", "Gaps named to clients.", "reason", tally.gaps)
        yield self._connections()
        yield from self._streams()

    def _connections(self) -> Metric:
        family = GaugeMetricFamily("a2a_connections", "Open connections.", labels=["transport"])
        counts = {"websocket": 0, "sse": 0, "a2a": 0}
        for connection in self._replica.connections:
            counts[connection.TRANSPORT if isinstance(connection, EventStream) else "websocket"] += 1
        for transport, count in counts.items():
            family.add_metric([transport], count)
        return family

    def _streams(self) -> Iterator[Metric]:
        high = GaugeMetricFamily("a2a_log_high", "High watermark: last sequence read.", labels=["stream"])
        low = GaugeMetricFamily(
            "a2a_log_low", "Low watermark: what is below is read from the stream.", labels=["stream"]
        )
        size = GaugeMetricFamily("a2a_log_bytes", "Memory of the log, frames included.", labels=["stream"])
        channels = GaugeMetricFamily("a2a_live_keys", "Routing keys with a live subscription.", labels=["stream"])
        readers = GaugeMetricFamily("a2a_readers", "Connections that read the stream.", labels=["stream"])
        for name, stream in self._replica.streams.items():
            if stream.is_open:
                high.add_metric([name], stream.log.high)
                low.add_metric([name], stream.log.low)
                size.add_metric([name], stream.log.bytes)
                channels.add_metric([name], len(stream.fanout))
                readers.add_metric([name], len(stream.readers))
        yield from (high, low, size, channels, readers)


def _by(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def gateway_metrics(replica: Replica, registry: CollectorRegistry) -> None:
    """Have `registry` show the replica's figures."""
    registry.register(GatewayCollector(replica))
