"""The data folder: one system at a time, a secret that stays, and plain words where it cannot be used."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.local import folder as module
from services.local.folder import DataFolder, FolderUnusable

Open = Callable[[Path], DataFolder]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.0)
    folders: list[DataFolder] = []

    def opens(path: Path) -> DataFolder:
        folders.append(DataFolder(path))
        return folders[-1]

    yield opens
    for folder in folders:
        folder.close()


def test_a_missing_folder_is_made_with_all_above_it(opened: Open, tmp_path: Path) -> None:
    assert opened(tmp_path / "a" / "b").logs.is_dir()


def test_a_path_that_is_a_file_says_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match=r"cannot be written \(.*choose another with --data DIR"):
        DataFolder(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FolderUnusable, match="Permission denied"):
        DataFolder(tmp_path / "data")


def test_a_second_system_is_told_who_uses_the_folder(opened: Open, tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(FolderUnusable, match=f"in use by process {os.getpid()}; .*--data DIR"):
        opened(tmp_path)


def test_a_folder_is_free_again_once_closed(opened: Open, tmp_path: Path) -> None:
    DataFolder(tmp_path).close()
    opened(tmp_path)


def test_a_folder_stays_in_use_while_a_child_holds_the_lock(opened: Open, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[folder.lock]
    ) as child:
        folder.close()
        with pytest.raises(FolderUnusable, match="in use"):
            opened(tmp_path)
        child.communicate()
    opened(tmp_path)


def test_the_secret_is_made_once_and_for_the_owner_only(opened: Open, tmp_path: Path) -> None:
    folder = opened(tmp_path)
    secret = folder.secret()
    assert len(secret) >= 32
    assert folder.secret() == secret
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_an_empty_secret_is_made_anew(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    assert len(opened(tmp_path).secret()) >= 32


def test_a_secret_that_cannot_be_read_is_told(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(FolderUnusable, match="remove it for a new one"):
        opened(tmp_path).secret()
