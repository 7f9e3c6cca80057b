"""The data folder: one system at a time, its secret, its logs, and the events themselves.

Decides how an unusable folder is told. The lock is held by an open file, which nats-server inherits:
it lasts exactly as long as somebody may still write here, and needs no cleaning up.
"""

import fcntl
import os
import secrets
import time
from pathlib import Path

# A system that was killed a moment ago leaves its nats-server a few milliseconds to end.
_LOCK_SECONDS = 1.0


class FolderUnusable(Exception):
    """The folder cannot be written, or another system uses it; one line that says what to do."""


class DataFolder:
    """An open data folder; nobody else has it open."""

    def __init__(self, path: Path) -> None:
        """Make and lock it.

        Raises:
            FolderUnusable: with what to do about it.
        """
        self.path = path.absolute()
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FolderUnusable(
                f"the data folder {path} cannot be written ({reason}); choose another with --data DIR"
            ) from error
        self._take_lock()

    @property
    def logs(self) -> Path:
        """Where each child's log is."""
        return self.path / "logs"

    @property
    def nats(self) -> Path:
        """Where nats-server keeps the streams."""
        return self.path / "nats"

    def secret(self) -> str:
        """The secret that tokens are signed with: made once and kept, so that tokens survive a restart."""
        file = self.path / "secret"
        try:
            kept = file.read_text().strip() if file.exists() else ""
            if kept:
                return kept
            made = secrets.token_urlsafe(48)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as writer:
                writer.write(made + "\n")
        except OSError as error:
            raise FolderUnusable(f"{file} cannot be used ({error.strerror}); remove it for a new one") from error
        return made

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self.lock)

    def _take_lock(self) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                holder = os.pread(self.lock, 20, 0).decode().strip()
                self.close()
                raise FolderUnusable(
                    f"the data folder {self.path} is in use by process {holder or '?'}; "
                    "stop that one or choose another folder with --data DIR"
                ) from None
            os.ftruncate(self.lock, 0)
            os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)
            return
