"""The sink: what a session or an event stream asks of its transport."""

from typing import Protocol


class Sink(Protocol):
    """What a session asks of its transport."""

    def write(self, data: bytes) -> None:
        """Send these bytes after all before them."""

    def close(self) -> None:
        """End the connection once what was written is sent; everything is sent within the close deadline or dropped."""

    def abort(self) -> None:
        """End it now."""

    def hold(self) -> None:
        """Hand over no further message until `go_on`."""

    def go_on(self) -> None:
        """Hand over messages again."""

    def unsent(self) -> int:
        """Bytes written and not yet taken by the socket."""
