"""What a push consumer says beside its messages: idle heartbeats and flow-control requests (JetStream's ADR-15)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Control:
    """One control message."""

    # Subjects to publish an empty answer to, so that the server goes on.
    answers: tuple[str, ...]
    # How many messages the consumer has delivered by its own count; None where it does not say.
    delivered: int | None


def read_control(reply: bytes, headers: bytes) -> Control:
    """Read a message that is no delivery: `reply` is a flow-control request's, a stalled consumer's is in the headers.

    Raises:
        ValueError: the count is no number.
    """
    told = dict(line.split(b": ", 1) for line in headers.split(b"\r\n")[1:] if b": " in line)
    answers = (reply, told.get(b"Nats-Consumer-Stalled"))
    delivered = told.get(b"Nats-Last-Consumer")
    return Control(
        tuple(answer.decode() for answer in answers if answer), None if delivered is None else int(delivered)
    )
