"""The cursor: a stream, its epoch, a sequence (PROTOCOL §1).

"I have everything up to here." This file decides the text form and how epochs compare; it
never decides whether a cursor can still be served.
"""

import re
from dataclasses import dataclass

from contracts.errors import ContractError

EPOCH_WIDTH = 9
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TEXT = re.compile(r"([A-Z][A-Z0-9_]{0,31})\.([0-9a-z]{8,9})\.(0|[1-9][0-9]{0,19})", re.ASCII)
_LARGEST_SEQUENCE = 2**64 - 1


class InvalidCursor(ContractError):
    """The text is not a cursor."""


def epoch_of(created_ms: int) -> str:
    """The epoch of a stream made at `created_ms` (Unix ms): base36, fixed width, so that epochs compare as text."""
    digits = ""
    rest = created_ms
    while rest:
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
    return digits.rjust(EPOCH_WIDTH, "0")


def epoch_is_older(epoch: str, than: str) -> bool:
    """Whether `epoch` began before `than`."""
    return epoch.rjust(EPOCH_WIDTH, "0") < than.rjust(EPOCH_WIDTH, "0")


@dataclass(frozen=True, slots=True)
class Cursor:
    """`STREAM.epoch.sequence`; opaque to clients, valid at every gateway of every region."""

    stream: str
    epoch: str
    sequence: int

    @staticmethod
    def parse(text: str) -> "Cursor":
        """Read the text form.

        Raises:
            InvalidCursor: the text is anything else, or the sequence does not fit 64 bits.
        """
        found = _TEXT.fullmatch(text)
        if found is None or int(found[3]) > _LARGEST_SEQUENCE:
            raise InvalidCursor(f"not a cursor: {text[:80]!r}")
        return Cursor(found[1], found[2], int(found[3]))

    def __str__(self) -> str:
        return f"{self.stream}.{self.epoch}.{self.sequence}"
