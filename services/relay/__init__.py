"""Keeps one NATS site equal to `contracts.topology`: streams and replay mirrors at the hub."""
