"""Key pairs of each kind, made once a run, and a small issuer that serves a JWKS over HTTP."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

KINDS = ("RS256", "ES256", "EdDSA")


def private_key(kind: str, number: int = 0) -> Any:
    """A private key for algorithm `kind`; another for another `number`."""
    return _made(kind, number)


@cache
def _made(kind: str, _: int) -> Any:
    if kind == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def jwk(kind: str, number: int = 0, **members: Any) -> dict[str, Any]:
    """The public key as an entry of a JWKS."""
    algorithm = jwt.get_algorithm_by_name(kind)
    found: dict[str, Any] = json.loads(algorithm.to_jwk(private_key(kind, number).public_key()))
    return {**found, "use": "sig", "alg": kind, "kid": f"{kind}-{number}", **members}


def signed(kind: str, number: int = 0, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good token of `ada`, a buyer, but for what differs; a claim of None is left out."""
    found = {"sub": "ada", "role": "buyer", "exp": int(time.time()) + 600, **claims}
    found = {name: value for name, value in found.items() if value is not None}
    return jwt.encode(found, private_key(kind, number), kind, {"kid": f"{kind}-{number}", **(headers or {})})


class Issuer:
    """An HTTP server of one document; counts who asks, and may hold, drip or break its answers."""

    def __init__(self) -> None:
        self.url = ""
        self.entries: list[Any] = []
        self.status = 200
        # What is served instead of the entries.
        self.raw: bytes | None = None
        self.asked = 0
        # While cleared, answers wait.
        self.answering = asyncio.Event()
        self.answering.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            await self.answering.wait()
            body = self.raw if self.raw is not None else json.dumps({"keys": self.entries}).encode()
            head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\nLocation: {self.url}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An issuer on a free port of 127.0.0.1."""
    issuer = Issuer()
    server = await asyncio.start_server(issuer._serve, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    async with server:
        yield issuer
        issuer.answering.set()
