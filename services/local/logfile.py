"""One child's log: a file it writes to by itself, bounded, kept for one run after its own."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

LARGEST_BYTES = 16 * 1024**2


class LogFile:
    """`<name>.log`, with what came before it in `<name>.log.1`."""

    def __init__(self, path: Path) -> None:
        """Begin anew; the run before is kept as `.1`."""
        self.path = path
        self._before = path.with_name(path.name + ".1")
        if path.exists():
            path.replace(self._before)
        self.path.touch(0o600)

    def writer(self) -> BinaryIO:
        """A file for a child to write to; it appends, so that cutting the file leaves no hole in it."""
        return self.path.open("ab", buffering=0)

    def size(self) -> int:
        """Bytes so far: where the next line will be."""
        return self.path.stat().st_size

    def lines(self, start: int = 0) -> list[str]:
        """The lines from byte `start` on."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(LARGEST_BYTES).decode(errors="replace").splitlines()

    def bound(self) -> None:
        """Where the file has grown too large, keep its text as `.1` and empty it under the writer's hands."""
        if self.size() > LARGEST_BYTES:
            shutil.copyfile(self.path, self._before)
            os.truncate(self.path, 0)
