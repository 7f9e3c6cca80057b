"""Tokens: JWT in, `Principal` out (PROTOCOL §4).

Decides which algorithms a key may be used with; an algorithm that does not fit its key, `none`
and HS256 without an explicit secret are refused. Knows nothing of HTTP or WebSocket: what bears
the token is the transport's business.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import ROLES, Principal
from contracts.subjects import is_id

_JWKS_FRESH_SECONDS = 300.0
# An unknown `kid` asks the issuer again, but not more often than this: tokens are the client's to invent.
_JWKS_REFETCH_SECONDS = 5.0
_JWKS_TIMEOUT_SECONDS = 3.0
_LARGEST_TOKEN = 8192


class KeysUnavailable(Refused):
    """The issuer's keys cannot be fetched: the token may be good, and a later try may tell."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.INTERNAL, "the issuer's keys cannot be fetched just now", 2000))


class _UnknownKey(Exception):
    """No key at hand for this token's `kid`; a fresh JWKS may have it."""


def fitting_algorithm(key: object) -> str | None:
    """The one algorithm this public key may verify with, or None."""
    if isinstance(key, RSAPublicKey):
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    return "EdDSA" if isinstance(key, Ed25519PublicKey) else None


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError where `public_key` is neither a PEM of a supported kind nor a path to one."""
        self._secret = hs256_secret
        self._pem = _read_public_key(public_key) if public_key else None
        self._issuer = issuer
        self._audience = audience
        self._roles = roles
        self._clock = clock
        self._jwks = _Jwks(jwks_url, clock) if jwks_url else None

    async def verify(self, token: str) -> Principal:
        """The principal of `token`; fetches the issuer's keys where they are needed.

        Raises:
            Refused: `token_expired` or `token_invalid`.
            KeysUnavailable: the keys cannot be fetched.
        """
        try:
            return self.verify_now(token)
        except _UnknownKey as error:
            if self._jwks is None or not await self._jwks.refresh():
                raise _invalid("no key fits this token") from error
        try:
            return self.verify_now(token)
        except _UnknownKey as error:
            raise _invalid("no key fits this token") from error

    def verify_now(self, token: str) -> Principal:
        """As `verify`, from the keys at hand; raises _UnknownKey where a fresh JWKS might help."""
        if len(token) > _LARGEST_TOKEN:
            raise _invalid("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _invalid("not a JWT") from error
        algorithm, key = self._key_for(header)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                # The times are judged below, by the verifier's own clock; nbf and iat bind nobody here.
                options={"require": ["sub", "exp"], "verify_exp": False, "verify_iat": False, "verify_nbf": False,
                         "verify_aud": self._audience is not None, "verify_sub": False},
            )
        except jwt.PyJWTError as error:
            raise _invalid(str(error) or "the token does not verify") from error
        return self._principal(claims)

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
        sub, role, expires, jti = claims["sub"], claims.get("role"), claims["exp"], claims.get("jti")
        if not isinstance(sub, str) or not is_id(sub):
            raise _invalid("sub is not an id")
        if role not in self._roles:
            raise _invalid("role is missing or unknown")
        if isinstance(expires, bool) or not isinstance(expires, (int, float)):
            raise _invalid("exp is not a number")
        channels = claims.get("channels")
        if channels is not None and not (isinstance(channels, list) and all(isinstance(name, str) for name in channels)):
            raise _invalid("channels is not a list of names")
        issued = claims.get("iat")
        if expires <= self._clock():
            raise Refused(Problem(ErrorCode.TOKEN_EXPIRED))
        return Principal(
            sub,
            role,
            float(expires),
            None if channels is None else frozenset(channels),
            jti if isinstance(jti, str) else None,
            float(issued) if isinstance(issued, (int, float)) else None,
        )


def _read_public_key(text: str) -> Any:
    pem = text if "-----BEGIN" in text else Path(text).read_text()
    key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    if fitting_algorithm(key) is None:
        raise ValueError("the PEM must be a public key: RSA, EC P-256 or Ed25519")
    return key


class _Jwks:
    """The issuer's keys, cached; one fetch at a time, whoever waits."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        # (kid, algorithm) -> public key.
        self._keys: dict[tuple[str | None, str], Any] = {}
        # Clock times of the last fetch begun and the last that succeeded.
        self._tried_at = float("-inf")
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    def find(self, kid: object, algorithm: str) -> Any:
        if self._clock() - self._fetched_at > _JWKS_FRESH_SECONDS:
            raise _UnknownKey
        if kid is None:
            fitting = [key for (_, fits), key in self._keys.items() if fits == algorithm]
            if len(fitting) == 1:
                return fitting[0]
        key = self._keys.get((str(kid), algorithm))
        if key is None:
            raise _UnknownKey
        return key

    async def refresh(self) -> bool:
        """Fetch again unless that was just done; whether the keys may now be others."""
        began = self._clock()
        async with self._fetching:
            if self._fetched_at >= began:
                return True  # somebody fetched while we waited
            if self._clock() - self._tried_at < _JWKS_REFETCH_SECONDS:
                if self._clock() - self._fetched_at > _JWKS_FRESH_SECONDS:
                    raise KeysUnavailable
                return False
            self._tried_at = self._clock()
            try:
                async with httpx.AsyncClient(timeout=_JWKS_TIMEOUT_SECONDS) as client:
                    answer = await client.get(self._url)
                    answer.raise_for_status()
                    self._keys = _usable_keys(answer.json())
            except (httpx.HTTPError, ValueError) as error:
                raise KeysUnavailable from error
            self._fetched_at = self._clock()
            return True


def _usable_keys(document: Mapping[str, Any]) -> dict[tuple[str | None, str], Any]:
    found: dict[tuple[str | None, str], Any] = {}
    for entry in document.get("keys", ()) if isinstance(document, dict) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry).key
        except jwt.PyJWTError:
            continue  # a kind of key that we do not take; the others still serve
        algorithm = fitting_algorithm(key)
        if algorithm is not None and entry.get("alg", algorithm) == algorithm:
            found[(entry.get("kid"), algorithm)] = key
    return found
