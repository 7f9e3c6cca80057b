"""What ingest counts. No label holds an id: streams, codes and outcomes are few."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The service's own figures."""

    # Events acknowledged, by stream and by outcome: `stored` or `duplicate`.
    events: Counter
    # Requests refused, by the code told.
    refused: Counter
    # Publishes that were tried again.
    retries: Counter
    # Seconds from a publish to its acknowledgement.
    publish_seconds: Histogram


def metrics_in(registry: CollectorRegistry) -> Metrics:
    """The figures, registered."""
    return Metrics(
        Counter("a2a_ingest_events", "Events acknowledged by the stream.", ["stream", "outcome"], registry=registry),
        Counter("a2a_ingest_refused", "Requests refused.", ["code"], registry=registry),
        Counter("a2a_ingest_publish_retries", "Publishes tried again.", registry=registry),
        Histogram("a2a_ingest_publish_seconds", "Publish to acknowledgement.", registry=registry, buckets=_SECONDS),
    )
