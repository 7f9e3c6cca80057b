"""From a stored message to an entry of the log: its keys from the subject, its envelope read once.

What is no event is counted and logged, never delivered; cursors pass it (PROTOCOL §3).
"""

from structlog.stdlib import BoundLogger

from contracts import envelope
from contracts.channels import Channels
from contracts.subjects import InvalidSubject
from services.gateway.core.log import Entry, Life
from services.gateway.core.replica import Tally

# Subjects repeat for as long as an aggregate lives; their keys are computed once. Emptied when full.
_CACHED_SUBJECTS = 65_536


class Decoder:
    """Makes entries of one stream's messages."""

    def __init__(self, stream: str, channels: Channels, tally: Tally, log: BoundLogger) -> None:
        self._stream = stream
        self._channels = channels
        self._tally = tally
        self._log = log
        self._keys: dict[str, tuple[str, ...]] = {}

    def entry(self, life: Life, sequence: int, time_ns: int, subject: str, payload: bytes) -> Entry | None:
        """The entry of one message, or None where it is no event."""
        keys = self._keys.get(subject)
        try:
            if keys is None:
                keys = self._remember(subject)
            kind, final, line = envelope.read(payload)
        except (InvalidSubject, envelope.NotAnEvent) as error:
            self._tally.not_events += 1
            self._log.warning(
                "not_an_event", stream=self._stream, sequence=sequence, subject=subject, error=str(error)[:200]
            )
            return None
        if final:  # nothing follows on this subject
            self._keys.pop(subject, None)
        return Entry(life, sequence, time_ns, keys, kind, final, line)

    def _remember(self, subject: str) -> tuple[str, ...]:
        if len(self._keys) >= _CACHED_SUBJECTS:
            self._keys.clear()
        keys = self._keys[subject] = self._channels.keys(self._stream, subject)
        return keys
