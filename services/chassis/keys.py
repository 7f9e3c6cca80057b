"""Keys that verify tokens: a shared secret, a PEM, the issuer's JWKS (RFC 7517).

Decides which keys are taken and which one algorithm each may be used with. Knows nothing of claims.
"""

import asyncio
import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
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
from jwt.algorithms import HMACAlgorithm

from contracts.errors import ErrorCode, Problem, Refused

# Keys are fetched again after the first time; while the issuer is away they serve until the second.
_JWKS_FRESH_SECONDS = 300.0
_JWKS_STALE_SECONDS = 3600.0
# An unknown `kid` asks the issuer again, but not more often than this: tokens are the client's to invent.
_JWKS_REFETCH_SECONDS = 5.0
_JWKS_TIMEOUT_SECONDS = 3.0
_LARGEST_JWKS_BYTES = 256 * 1024
_SMALLEST_RSA_BITS = 2048

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class KeysUnavailable(Refused):
    """The issuer's keys cannot be fetched: the token may be good, and a later try may tell."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.INTERNAL, "the issuer's keys cannot be fetched just now", 2000))


class UnknownKey(Exception):
    """No key at hand for this token's `kid`; a fresh JWKS may have it."""


def fitting_algorithm(key: object) -> str | None:
    """The one algorithm this public key may verify with, or None."""
    if isinstance(key, RSAPublicKey):
        return "RS256" if key.key_size >= _SMALLEST_RSA_BITS else None
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    return "EdDSA" if isinstance(key, Ed25519PublicKey) else None


def shared_secret(secret: str) -> bytes:
    """The secret, judged once: raises ValueError where it is a public key, and says where it is short."""
    algorithm = HMACAlgorithm(HMACAlgorithm.SHA256)
    try:
        ready = algorithm.prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(f"A2A_JWT_HS256_SECRET: {error}") from error
    if weakness := algorithm.check_key_length(ready):
        _log.warning("weak_secret", setting="A2A_JWT_HS256_SECRET", why=weakness)
    return ready


class ReadyHmac(HMACAlgorithm):
    """HMAC with a key from `shared_secret`; PyJWT would judge it for each token anew, as long as all the rest takes."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """The key as it is."""
        return key if isinstance(key, bytes) else key.encode()

    def sign(self, msg: bytes, key: bytes) -> bytes:
        """In one call of the library's, where PyJWT makes an object for each token."""
        return hmac.digest(key, msg, "sha256")

    def check_key_length(self, key: bytes) -> str | None:
        """How long a shared secret has to be is said where it is set."""
        return None


class ReadyJws(jwt.PyJWS):
    """PyJWS that reads canonical base64url at once; PyJWT's own looks at each character, a third of all its time."""

    def __init__(self) -> None:
        super().__init__()
        self.unregister_algorithm("HS256")
        self.register_algorithm("HS256", ReadyHmac(HMACAlgorithm.SHA256))

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        """What encodes to just these characters holds no others; PyJWT judges all else, and says what is wrong."""
        try:
            decoded = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
        except binascii.Error:
            decoded = b""
        if segment and urlsafe_b64encode(decoded).rstrip(b"=") == segment:
            return decoded
        return jwt.PyJWS._decode_base64url_segment(segment, name)


def read_public_key(text: str) -> Any:
    """The public key of a PEM, or of the file that `text` names; raises ValueError, which says what is wrong."""
    try:
        pem = text if "-----BEGIN" in text else Path(text).read_text()
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except OSError as error:
        raise ValueError(f"A2A_JWT_PUBLIC_KEY: neither a PEM nor a file that can be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("A2A_JWT_PUBLIC_KEY: not the PEM of a public key") from error
    if fitting_algorithm(key) is None:
        kinds = f"RSA of {_SMALLEST_RSA_BITS} bits or more, EC P-256 or Ed25519"
        raise ValueError(f"A2A_JWT_PUBLIC_KEY: the PEM must be a public key: {kinds}")
    return key


class Jwks:
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
        """The key of this id, or the only one of its algorithm; raises UnknownKey."""
        if self._must_ask():
            raise UnknownKey
        if kid is None:
            fitting = [key for (_, fits), key in self._keys.items() if fits == algorithm]
            if len(fitting) == 1:
                return fitting[0]
            raise UnknownKey
        key = self._keys.get((str(kid), algorithm))
        if key is None:
            raise UnknownKey
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
