"""Compiles the load client, once per change of its source."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.load.process import ROOT

SOURCE = Path(__file__).with_name("fanload")
_FLAGS = ("-std=gnu11", "-O3", "-Wall", "-Wextra")


class NoCompiler(Exception):
    """The load client cannot be compiled; one line that says what to do."""


def load_client(folder: Path = ROOT / "build" / "load") -> Path:
    """The compiled client, from `folder` where its source is unchanged.

    Raises:
        NoCompiler: there is none, or it refuses the source.
    """
    parts = sorted(SOURCE.glob("*.c"))
    said = hashlib.sha256(b"".join(part.read_bytes() for part in [*parts, SOURCE / "fanload.h"])).hexdigest()[:16]
    binary = folder / f"fanload-{said}"
    if binary.exists():
        return binary
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("no C compiler (cc) found for the load client; install one, as with: apt-get install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"fanload-{os.getpid()}.new"
    done = subprocess.run([compiler, *_FLAGS, "-o", unfinished, *parts], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoCompiler(f"{compiler} refuses the load client, which needs Linux: {done.stderr.strip()[:300]}")
    unfinished.replace(binary)
    return binary
