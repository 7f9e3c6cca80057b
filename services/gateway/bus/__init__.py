"""The NATS side: what brings events to the core, live and from the past."""
