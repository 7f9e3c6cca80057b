"""Tokens: JWT in, `Principal` out (PROTOCOL §4).

Decides which algorithms a key may be used with; an algorithm that does not fit its key, `none`
and HS256 without an explicit secret are refused. Knows nothing of HTTP or WebSocket: what bears
the token is the transport's business.
"""

import hashlib
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import ROLES, Principal
from contracts.revocation import LARGEST_JTI, is_jti
from contracts.subjects import is_id
from services.chassis.keys import (
    Jwks,
    KeysUnavailable,
    ReadyJws,
    UnknownKey,
    fitting_algorithm,
    read_public_key,
    shared_secret,
)
from services.chassis.revocations import Revocations

_LARGEST_TOKEN = 8192
# Verified tokens that are remembered, by their digest: a client that reconnects brings the one it had. Some 2 MiB.
_REMEMBERED_TOKENS = 4096
_LARGEST_REMEMBERED = 2048
# Token headers that are remembered: an issuer's tokens differ in what follows. At most 64 KiB.
_REMEMBERED_HEADERS = 256
_LARGEST_REMEMBERED_HEADER = 256
# How far the issuer's clock may be ahead of ours, where a token begins or was issued in the future.
_SKEW_SECONDS = 60.0
# The last second of the year 9999: what is later is no time, whatever the claim says.
_LATEST = 253402300799.0


def _invalid(why: str) -> Refused:
    return Refused(Problem(ErrorCode.TOKEN_INVALID, why))


class TokenVerifier:
    """Verifies tokens against a shared secret, a PEM and a JWKS, whichever are configured."""

    def __init__(
        self,
        *,
        hs256_secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        roles: frozenset[str] = ROLES,
        revocations: Revocations | None = None,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` judges the times in tokens, `ticks` the age of keys, `revocations` what else stands against one.

        Raises:
            ValueError: `public_key` is no PEM of a supported kind nor a path to one, or `hs256_secret` is a public key.
        """
        self._secret = None if hs256_secret is None else shared_secret(hs256_secret)
        self._jwt = jwt.PyJWT()
        self._jwt._jws = ReadyJws()
        self._pem = read_public_key(public_key) if public_key else None
        self._issuer = issuer
        self._audience = audience
        self._roles = roles
        self._clock = clock
        # None where nobody is ever revoked: a verifier by itself.
        self.revocations = revocations
        self._jwks = Jwks(jwks_url, ticks) if jwks_url else None
        # Digest of a token -> its principal and the state of the keys that verified it; the least lately used first.
        self._verified: OrderedDict[bytes, tuple[object, Principal]] = OrderedDict()
        # First part of tokens -> what it says.
        self._headers: dict[str, Mapping[str, Any]] = {}

    async def verify(self, token: str) -> Principal:
        """The principal of `token`; fetches the issuer's keys where they are needed.

        Raises:
            Refused: `token_expired`, `token_invalid` or `revoked`; `unavailable` before revocations have been read.
            KeysUnavailable: the keys cannot be fetched.
        """
        principal = await self._signed(token)
        if self.revocations is not None and (problem := self.revocations.judge(principal)) is not None:
            raise Refused(problem)
        return principal

    async def _signed(self, token: str) -> Principal:
        digest = _digest(token)
        held = self._remembered(digest)
        if held is not None:
            return held
        try:
            return self._remember(token, digest, self.verify_now(token))
        except UnknownKey as error:
            if self._jwks is None:
                raise _invalid("no key fits this token") from error
        await self._jwks.refresh()
        try:
            return self._remember(token, digest, self.verify_now(token))
        except UnknownKey as error:
            if self._jwks.is_failing:
                raise KeysUnavailable from error  # a key that we could not hear of may fit
            raise _invalid("no key fits this token") from error

    def _remembered(self, digest: bytes) -> Principal | None:
        """Whose token this is, where just these keys have verified it before; expiry is judged anew."""
        found = self._verified.get(digest)
        if found is None:
            return None
        keys, principal = found
        if keys != self._keys_now():
            del self._verified[digest]
            return None
        if principal.expires_at <= self._clock():
            del self._verified[digest]
            raise Refused(Problem(ErrorCode.TOKEN_EXPIRED))
        self._verified.move_to_end(digest)
        return principal

    def _remember(self, token: str, digest: bytes, principal: Principal) -> Principal:
        if len(token) <= _LARGEST_REMEMBERED:
            self._verified[digest] = (self._keys_now(), principal)
            if len(self._verified) > _REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        return principal

    def _keys_now(self) -> object:
        """Equal for as long as no key may have come or gone."""
        return None if self._jwks is None else self._jwks.state()

    def verify_now(self, token: str) -> Principal:
        """As `verify`, from the keys at hand; raises UnknownKey where a fresh JWKS might help."""
        if len(token) > _LARGEST_TOKEN or not token.isascii():
            raise _invalid("the token is too long" if token.isascii() else "not a JWT")
        algorithm, key = self._key_for(self._header_of(token))
        try:
            claims = self._jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                # Times, `sub` and `jti` are judged below: by the verifier's own clock, and more strictly.
                options={
                    "require": ["sub", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_sub": False,
                    "verify_jti": False,
                    "verify_aud": self._audience is not None,
                },
            )
        except jwt.PyJWTError as error:
            raise _invalid(str(error) or "the token does not verify") from error
        return self._principal(claims)

    def _header_of(self, token: str) -> Mapping[str, Any]:
        part = token.partition(".")[0]
        header = self._headers.get(part)
        if header is None:
            try:
                header = jwt.get_unverified_header(token)
            except jwt.PyJWTError as error:
                raise _invalid("not a JWT") from error
            if len(part) <= _LARGEST_REMEMBERED_HEADER:
                if len(self._headers) >= _REMEMBERED_HEADERS:
                    self._headers.clear()
                self._headers[part] = header
        return header

    def _key_for(self, header: Mapping[str, Any]) -> tuple[str, Any]:
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret is not None:
            return algorithm, self._secret
        if algorithm not in ("RS256", "ES256", "EdDSA"):
            raise _invalid(f"algorithm {str(algorithm)[:20]!r} is not accepted here")
        if self._pem is not None and fitting_algorithm(self._pem) == algorithm:
            return algorithm, self._pem
        if self._jwks is None:
            raise _invalid(f"no key for algorithm {algorithm}")
        return algorithm, self._jwks.find(header.get("kid"), algorithm)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        sub, role, jti, channels = (claims.get(name) for name in ("sub", "role", "jti", "channels"))
        if not isinstance(sub, str) or not is_id(sub):
            raise _invalid("sub is not an id")
        if not isinstance(role, str) or role not in self._roles:
            raise _invalid("role is missing or unknown")
        if jti is not None and not (isinstance(jti, str) and is_jti(jti)):
            raise _invalid(f"jti is not a text of 1 to {LARGEST_JTI} characters")  # no revocation could name it
        if channels is not None and not _is_list_of_names(channels):
            raise _invalid("channels is not a list of names")
        expires, issued, begins = (_time(claims, name) for name in ("exp", "iat", "nbf"))
        now = self._clock()
        if expires is None:
            raise _invalid("exp is not a time")
        if expires <= now:
            raise Refused(Problem(ErrorCode.TOKEN_EXPIRED))
        if begins is not None and begins > now + _SKEW_SECONDS:
            raise _invalid("the token is not valid yet")
        if issued is not None and issued > now + _SKEW_SECONDS:
            raise _invalid("the token was issued in the future")  # revoking its holder would not bar it
        # One text for each role, however many hold it.
        return Principal(sub, sys.intern(role), expires, None if channels is None else frozenset(channels), jti, issued)


def _digest(token: str) -> bytes:
    """What a token is remembered by: as good as the token, and a replica's memory tells nobody's token."""
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def _is_list_of_names(claim: object) -> bool:
    return isinstance(claim, list) and all(isinstance(name, str) for name in claim)


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A claim in Unix seconds. NaN would be before and after nothing: never expired, never revoked."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LATEST <= value <= _LATEST:
        raise _invalid(f"{name} is not a time")
    return float(value)
