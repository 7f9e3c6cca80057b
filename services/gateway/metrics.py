"""The gateway's metrics, read from the running totals when somebody asks; no id ever becomes a label."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.bus.gossip import Gossip
from services.gateway.core.memory import MemoryGuard
from services.gateway.core.replica import Replica

_CANARY_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class GatewayCollector(Collector):
    """Reads one replica."""

    def __init__(self, replica: Replica, gossip: Gossip, guard: MemoryGuard | None) -> None:
        self._replica = replica
        self._gossip = gossip
        self._guard = guard

    def collect(self) -> Iterator[Metric]:
        """Every figure, as of now."""
        tally = self._replica.tally
        site = GaugeMetricFamily("a2a_site_info", "Which region this replica is in; always 1.", labels=["region"])
        site.add_metric([self._replica.region], 1)
        yield site
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
        yield from self._fleet()
        yield from self._streams()
        yield from self._presence()

    def _connections(self) -> Metric:
        family = GaugeMetricFamily("a2a_connections", "Open connections.", labels=["transport"])
        counts = {"websocket": 0, "sse": 0, "a2a": 0}
        for connection in self._replica.connections:
            counts[connection.TRANSPORT] += 1
        for transport, count in counts.items():
            family.add_metric([transport], count)
        return family

    def _fleet(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "a2a_replicas", "Replicas that this one knows of, itself too.", 1 + len(self._gossip.members)
        )
        yield GaugeMetricFamily("a2a_principals", "Subject ids with a connection here.", len(self._replica.headcount))
        yield GaugeMetricFamily("a2a_draining", "Whether the replica is leaving.", int(self._replica.leaving))
        yield GaugeMetricFamily("a2a_overloaded", "Whether memory keeps new ones out.", int(self._replica.overloaded))
        limit = 0 if self._guard is None else self._guard.limit
        yield GaugeMetricFamily("a2a_memory_limit_bytes", "Memory above which nobody new is taken; 0 is none.", limit)

    def _presence(self) -> Iterator[Metric]:
        presence = self._replica.presence
        signals = presence.signals.tally
        yield GaugeMetricFamily("a2a_presence_members", "Members whose connections are here.", presence.roster.count)
        yield GaugeMetricFamily("a2a_presence_channels", "Channels whose members are watched here.", presence.watched)
        yield GaugeMetricFamily(
            "a2a_presence_replicas", "Other replicas with a lease or in grace.", len(presence.leases)
        )
        yield CounterMetricFamily("a2a_signals_sent", "Signals of clients here.", signals.sent)
        yield CounterMetricFamily(
            "a2a_signals_received", "Signals of other replicas for clients here.", signals.received
        )
        yield CounterMetricFamily("a2a_signals_delivered", "Signals written to clients.", signals.delivered)
        yield _by("a2a_signals_dropped", "Signals dropped, by reason.", "reason", signals.dropped)

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


def gateway_metrics(replica: Replica, gossip: Gossip, guard: MemoryGuard | None, registry: CollectorRegistry) -> None:
    """Have `registry` show the replica's figures."""
    registry.register(GatewayCollector(replica, gossip, guard))


class CanaryMetrics:
    """What the canary tells, of one region."""

    def __init__(self, region: str, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "a2a_canary_seconds",
            "From the hub's stream to this gateway, timed by canaries.",
            ["region"],
            buckets=_CANARY_SECONDS,
            registry=registry,
        ).labels(region)
        self._lost = Counter(
            "a2a_canaries_lost", "Canaries that were not acknowledged or never came.", ["region"], registry=registry
        ).labels(region)
        self._age = Gauge(
            "a2a_canary_age_seconds", "Since the last canary came; -1 before the first.", ["region"], registry=registry
        ).labels(region)

    def measured(self, seconds: float) -> None:
        """One came."""
        self._seconds.observe(seconds)

    def lost(self) -> None:
        """One did not."""
        self._lost.inc()

    def watch(self, age: Callable[[], float]) -> None:
        """Have the age asked for whenever somebody looks."""
        self._age.set_function(age)
