"""Subjects: dotted routing keys, built and parsed here and nowhere else (PROTOCOL §2).

A layout names the tokens of a family of subjects. An id never holds a dot or a wild-card, so a
subject built here can be nothing but one subject.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from contracts.errors import ContractError

PLACEHOLDER = "-"
ID_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"
_ID = re.compile(ID_PATTERN, re.ASCII)


class InvalidSubject(ContractError):
    """The subject or one of its keys does not fit its layout."""


def is_id(text: str) -> bool:
    """Whether `text` is an id of PROTOCOL §1; the placeholder `-` is not."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Layout:
    """The subjects of one family: a prefix and the names of the tokens after it."""

    prefix: str
    tokens: tuple[str, ...]

    @property
    def wildcard(self) -> str:
        """The filter that matches every subject of the family."""
        return f"{self.prefix}.>"

    def build(self, keys: Mapping[str, str]) -> str:
        """The subject of these keys; a token without a key becomes `-`.

        Raises:
            InvalidSubject: a key is not an id, or names no token.
        """
        for token, value in keys.items():
            if token not in self.tokens:
                raise InvalidSubject(f"{self.prefix} subjects have no token {token!r}")
            if not is_id(value):
                raise InvalidSubject(f"{token} {value[:80]!r} is not an id")
        return ".".join((self.prefix, *(keys.get(token, PLACEHOLDER) for token in self.tokens)))

    def parse(self, subject: str) -> tuple[str, ...]:
        """The token values of `subject`, in the layout's order.

        Raises:
            InvalidSubject: another prefix or number of tokens, or a token neither an id nor `-`.
        """
        prefix, *values = subject.split(".")
        if prefix != self.prefix or len(values) != len(self.tokens):
            raise InvalidSubject(f"{subject[:200]!r} is not {self.prefix}.{'.'.join(f'<{t}>' for t in self.tokens)}")
        for token, value in zip(self.tokens, values, strict=True):
            if value != PLACEHOLDER and not is_id(value):
                raise InvalidSubject(f"{token} {value[:80]!r} is neither an id nor '-'")
        return tuple(values)

    def filter(self, keys: Mapping[str, str]) -> str:
        """The NATS filter of all subjects that bear these token values; a token without a key matches any."""
        values = [keys.get(token, "*") for token in self.tokens]
        fixed = len(values)
        while fixed and values[fixed - 1] == "*":
            fixed -= 1
        if fixed < len(values):
            values[fixed:] = [">"]
        return ".".join((self.prefix, *values))


MARKET = Layout("market", ("intent", "buyer", "node", "aggregate", "aggregate_id"))
PLAN = Layout("plan", ("owner", "plan"))
