"""Tokens for tests: HS256, signed with one secret that every service under test is given."""

import math
import time
from typing import Any

import jwt

SECRET = "a secret of the tests alone, of more than 32 bytes"


def token(sub: str, role: str, expires_in: float = 3600, **claims: Any) -> str:
    """A token of `sub`, good for `expires_in` seconds and for less than one more, which is what a whole second of `exp`
    costs; below zero it has run out already. A claim of None is left out."""
    now = time.time()
    found = {"sub": sub, "role": role, "iat": int(now), "exp": math.ceil(now + expires_in), **claims}
    return jwt.encode({name: value for name, value in found.items() if value is not None}, SECRET, algorithm="HS256")


def bearer(sub: str, role: str, expires_in: float = 3600, **claims: Any) -> dict[str, str]:
    """The `Authorization` header with such a token."""
    return {"Authorization": f"Bearer {token(sub, role, expires_in, **claims)}"}
