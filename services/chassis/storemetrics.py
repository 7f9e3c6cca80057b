"""What a publisher's event store counts. No label holds an id."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class StoreMetrics:
    """The store's own figures."""

    # Changes that were asked for, by outcome: `stored`, `repeated`, `nothing`, or the code of a refusal.
    changes: Counter
    # Seconds from an append to its acknowledgement.
    append_seconds: Histogram
    # Appends that did not become events: `conflict` or `not_acknowledged`.
    retries: Counter
    # Stored events that were read and folded.
    folded: Counter
    # Folds that began at a snapshot: `used`, `written`, `unusable`.
    snapshots: Counter


def store_metrics(registry: CollectorRegistry) -> StoreMetrics:
    """The figures, registered."""
    return StoreMetrics(
        Counter("a2a_store_changes", "Changes asked for.", ["aggregate", "outcome"], registry=registry),
        Histogram("a2a_store_append_seconds", "Append to acknowledgement.", registry=registry, buckets=_SECONDS),
        Counter("a2a_store_retries", "Appends that were not acknowledged as stored.", ["reason"], registry=registry),
        Counter("a2a_store_folded_events", "Stored events read and folded.", ["aggregate"], registry=registry),
        Counter("a2a_store_snapshots", "Snapshots.", ["outcome"], registry=registry),
    )
