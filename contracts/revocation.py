"""Revocations: which tokens are no longer good, from when and until when (DESIGN decision 9).

One revocation a subject id or token id: a later one takes the place of the one before, and one that is
`lifted` takes it away. Decides what is stored in the stream CONTROL and what it bars; never who may revoke.
"""

import hashlib
import math

import msgspec

from contracts.principal import Principal
from contracts.subjects import is_id
from contracts.topology import CONTROL

DEFAULT_SECONDS = 24 * 3600.0
"""How long one holds where nothing is said: longer than a token may live."""
LARGEST_JTI = 256
REVOCATION_SUBJECTS = f"{CONTROL.lower()}.revocation.>"


class InvalidRevocation(ValueError):
    """It names nobody, or two, or a moment that is none; the message says which."""


def is_jti(text: str) -> bool:
    """Whether a revocation can name a token by this: JSON may hold half of a character, which no text can."""
    return 1 <= len(text) <= LARGEST_JTI and not any("\ud800" <= character <= "\udfff" for character in text)


class Revocation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bars the tokens of `sub`, or the one token `jti`, that were issued up to `at`; times in Unix seconds."""

    at: float
    until: float
    sub: str | None = None
    jti: str | None = None
    # Who asked for it.
    by: str = ""
    lifted: bool = False

    @property
    def subject(self) -> str:
        """Where it is stored: only the last one of a subject is kept. A `jti` is any text, so a digest stands here."""
        name = self.sub or hashlib.sha256((self.jti or "").encode()).hexdigest()[:40]
        return f"{CONTROL.lower()}.revocation.{'sub' if self.sub else 'jti'}.{name}"

    def bars(self, principal: Principal, now: float) -> bool:
        """Whether it bars `principal`'s token; one that does not tell when it was issued is never younger."""
        if self.lifted or now >= self.until:
            return False
        if self.sub is not None and principal.sub != self.sub:
            return False
        if self.jti is not None and principal.jti != self.jti:
            return False
        return principal.issued_at is None or principal.issued_at <= self.at

    def encoded(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self)


def read(payload: bytes) -> Revocation:
    """A stored one.

    Raises:
        InvalidRevocation: it is none.
    """
    try:
        return checked(msgspec.json.decode(payload, type=Revocation))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRevocation(str(error)) from error


def checked(revocation: Revocation) -> Revocation:
    """The same, where it makes sense.

    Raises:
        InvalidRevocation: it does not.
    """
    if (revocation.sub is None) == (revocation.jti is None):
        raise InvalidRevocation("give one of sub and jti")
    if revocation.sub is not None and not is_id(revocation.sub):
        raise InvalidRevocation("sub is not an id")
    if revocation.jti is not None and not is_jti(revocation.jti):
        raise InvalidRevocation(f"jti has 1 to {LARGEST_JTI} characters")
    if not (math.isfinite(revocation.at) and math.isfinite(revocation.until)):
        raise InvalidRevocation("at and until are moments")
    return revocation
