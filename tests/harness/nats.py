"""A nats-server in a container, for machines without the binary."""

import contextlib
import os
from collections.abc import Iterator

IMAGE = os.environ.get("NATS_IMAGE", "nats:2.15.1-alpine")


@contextlib.contextmanager
def nats_container() -> Iterator[str | None]:
    """The URL of a nats-server with JetStream in a container; None where no engine can run one."""
    from docker.errors import DockerException  # type: ignore[import-untyped]  # ships no types
    from testcontainers.nats import NatsContainer

    try:
        container = NatsContainer(IMAGE, jetstream=True).start()
    except (DockerException, OSError):
        yield None
        return
    try:
        yield container.nats_uri()
    finally:
        container.stop()
