"""Tokens: JWT in, `Principal` out (PROTOCOL §4).

Decides which algorithms a key may be used with; an algorithm that does not fit its key, `none`
and HS256 without an explicit secret are refused. Knows nothing of HTTP or WebSocket: what bears
the token is the transport's business.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from contracts.errors import ErrorCode, Problem, Refused
from contracts.principal import ROLES, Principal
from contracts.subjects import is_id

# Keys are fetched again after the first time; while the issuer is away they serve until the second.
_JWKS_FRESH_SECONDS = 300.0
_JWKS_STALE_SECONDS = 3600.0
# An unknown `kid` asks the issuer again, but not more often than this: tokens are the client's to invent.
_JWKS_REFETCH_SECONDS = 5.0
_JWKS_TIMEOUT_SECONDS = 3.0
_LARGEST_JWKS_BYTES = 256 * 1024
_LARGEST_TOKEN = 8192
# Verified tokens that are remembered: a client that reconnects brings the one it had. At most 8 MiB.
_REMEMBERED_TOKENS = 4096
_LARGEST_REMEMBERED = 2048
_SMALLEST_RSA_BITS = 2048
# How far the issuer's clock may be ahead of ours, where a token begins in the future.
_SKEW_SECONDS = 60.0
# The last second of the year 9999: what is later is no time, whatever the claim says.
_LATEST = 253402300799.0


_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class KeysUnavailable(Refused):
    """The issuer's keys cannot be fetched: the token may be good, and a later try may tell."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.INTERNAL, "the issuer's keys cannot be fetched just now", 2000))


class _UnknownKey(Exception):
    """No key at hand for this token's `kid`; a fresh JWKS may have it."""


def fitting_algorithm(key: object) -> str | None:
    """The one algorithm this public key may verify with, or None."""
    if isinstance(key, RSAPublicKey):
        return "RS256" if key.key_size >= _SMALLEST_RSA_BITS else None
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
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` judges the times in tokens, `ticks` the age of keys.

        Raises:
            ValueError: `public_key` is neither a PEM of a supported kind nor a path to one; says which.
        """
        self._secret = hs256_secret
        self._pem = _read_public_key(public_key) if public_key else None
        self._issuer = issuer
        self._audience = audience
        self._roles = roles
        self._clock = clock
        self._jwks = _Jwks(jwks_url, ticks) if jwks_url else None
        # Token -> its principal, and the state of the keys that verified it; the least lately used goes first.
        self._verified: OrderedDict[str, tuple[object, Principal]] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The principal of `token`; fetches the issuer's keys where they are needed.

        Raises:
            Refused: `token_expired` or `token_invalid`.
            KeysUnavailable: the keys cannot be fetched.
        """
        held = self._remembered(token)
        if held is not None:
            return held
        try:
            return self._remember(token, self.verify_now(token))
        except _UnknownKey as error:
            if self._jwks is None:
                raise _invalid("no key fits this token") from error
        await self._jwks.refresh()
        try:
            return self._remember(token, self.verify_now(token))
        except _UnknownKey as error:
            if self._jwks.is_failing:
                raise KeysUnavailable from error  # a key that we could not hear of may fit
            raise _invalid("no key fits this token") from error

    def _remembered(self, token: str) -> Principal | None:
        """Whose token this is, where just these keys have verified it before; expiry is judged anew."""
        found = self._verified.get(token)
        if found is None:
            return None
        keys, principal = found
        if keys != self._keys_now():
            del self._verified[token]
            return None
        if principal.expires_at <= self._clock():
            del self._verified[token]
            raise Refused(Problem(ErrorCode.TOKEN_EXPIRED))
        self._verified.move_to_end(token)
        return principal

    def _remember(self, token: str, principal: Principal) -> Principal:
        if len(token) <= _LARGEST_REMEMBERED:
            self._verified[token] = (self._keys_now(), principal)
            if len(self._verified) > _REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        return principal

    def _keys_now(self) -> object:
        """Equal for as long as no key may have come or gone."""
        return None if self._jwks is None else self._jwks.state()

    def verify_now(self, token: str) -> Principal:
        """As `verify`, from the keys at hand; raises _UnknownKey where a fresh JWKS might help."""
        if len(token) > _LARGEST_TOKEN or not token.isascii():
            raise _invalid("the token is too long" if token.isascii() else "not a JWT")
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
        if jti is not None and not isinstance(jti, str):
            raise _invalid("jti is not a string")  # a revocation by jti could not name it
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
        return Principal(sub, role, expires, None if channels is None else frozenset(channels), jti, issued)


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


def _read_public_key(text: str) -> Any:
    try:
        pem = text if "-----BEGIN" in text else Path(text).read_text()
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except OSError as error:
        raise ValueError(f"neither a PEM nor a file that can be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not the PEM of a public key") from error
    if fitting_algorithm(key) is None:
        raise ValueError(f"the PEM must be a public key: RSA of {_SMALLEST_RSA_BITS} bits or more, EC P-256 or Ed25519")
    return key


class _Jwks:
    """The issuer's keys, cached; one fetch at a time, whoever waits for it or gives up waiting."""

    def __init__(self, url: str, ticks: Callable[[], float]) -> None:
        self._url = url
        self._ticks = ticks
        # (kid, algorithm) -> public key.
        self._keys: dict[tuple[str | None, str], Any] = {}
        # When the last fetch began and when the last one that succeeded ended.
        self._tried_at = float("-inf")
        self._fetched_at = float("-inf")
        # Whether the last fetch failed.
        self.is_failing = False
        # The fetch under way; its own task, so that a client that hangs up does not end it for the others.
        self._fetch: asyncio.Task[None] | None = None

    def find(self, kid: object, algorithm: str) -> Any:
        if self._must_ask():
            raise _UnknownKey
        if kid is None:
            fitting = [key for (_, fits), key in self._keys.items() if fits == algorithm]
            if len(fitting) == 1:
                return fitting[0]
            raise _UnknownKey
        key = self._keys.get((str(kid), algorithm))
        if key is None:
            raise _UnknownKey
        return key

    def state(self) -> object:
        """Equal for as long as the same keys serve; equal to nothing while the issuer has to be asked."""
        return object() if self._must_ask() else self._fetched_at

    def _must_ask(self) -> bool:
        """Whether the keys at hand are too old to be used before the issuer was asked."""
        age = self._ticks() - self._fetched_at
        if age <= _JWKS_FRESH_SECONDS:
            return False
        return age > _JWKS_STALE_SECONDS or not self.is_failing or self._may_try()

    def _may_try(self) -> bool:
        return self._ticks() - self._tried_at >= _JWKS_REFETCH_SECONDS

    async def refresh(self) -> None:
        """Fetch again unless that was just done.

        Raises:
            KeysUnavailable: that failed, and the keys at hand are too old to serve meanwhile.
        """
        if self._fetch is None or self._fetch.done():
            if self._may_try():
                self._tried_at = self._ticks()
                self._fetch = asyncio.create_task(self._fetch_keys())
            elif not self.is_failing:
                return
        if self._fetch is not None:
            await asyncio.shield(self._fetch)
        if self.is_failing and self._ticks() - self._fetched_at > _JWKS_STALE_SECONDS:
            raise KeysUnavailable

    async def _fetch_keys(self) -> None:
        try:
            # httpx's own time-out is for each read, so a slow drip could last for ever.
            async with asyncio.timeout(_JWKS_TIMEOUT_SECONDS), httpx.AsyncClient() as client:
                self._keys = _usable_keys(await _document(client, self._url))
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            self.is_failing = True
            _log.warning("issuer_keys_not_fetched", reason=f"{type(error).__name__}: {error}"[:200])
        else:
            self.is_failing = False
            self._fetched_at = self._ticks()


async def _document(client: httpx.AsyncClient, url: str) -> Any:
    """The JSON at `url`, of bounded size."""
    text = bytearray()
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_bytes():
            text += part
            if len(text) > _LARGEST_JWKS_BYTES:
                raise ValueError(f"more than {_LARGEST_JWKS_BYTES} bytes")
    return json.loads(text)


def _usable_keys(document: Any) -> dict[tuple[str | None, str], Any]:
    """The keys that may verify here; of other kinds and uses there may be any number.

    Raises:
        ValueError: this is no JWKS.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS")  # noqa: TRY004  # what is wrong is the document, not a call
    found: dict[tuple[str | None, str], Any] = {}
    for entry in entries:
        key = _public_key(entry)
        algorithm = fitting_algorithm(key)
        if algorithm is not None and entry.get("alg", algorithm) == algorithm:
            found[entry.get("kid"), algorithm] = key
    return found


def _public_key(entry: Any) -> object:
    """The key of one entry, or None where it is not one that verifies signatures."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(entry.get("kid"), str | None) or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        return jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        return None  # a kind of key that we do not take; the others still serve
