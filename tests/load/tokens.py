"""Tokens of the bench, signed with a secret that protects nothing: what is measured is that they are checked.

They never differ from one run to the next and do not expire, so that `ours.json` can be committed.
"""

from pathlib import Path

import jwt

SECRET = "the bench's own secret, which guards nothing"
_EXPIRES_AT = 4102444800  # 2100-01-01


def token(sub: str, role: str = "admin") -> str:
    """A token of `sub`."""
    return jwt.encode({"sub": sub, "role": role, "exp": _EXPIRES_AT}, SECRET, algorithm="HS256")


def header(sub: str, role: str = "admin") -> str:
    """The header line with such a token."""
    return f"Authorization: Bearer {token(sub, role)}"


def write_headers(path: Path, subjects: list[str], role: str = "admin") -> Path:
    """A header line for each subject id: connection i of the load client sends line i."""
    path.write_text("".join(f"{header(sub, role)}\n" for sub in subjects))
    return path
