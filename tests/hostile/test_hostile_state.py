"""Bots change their state while the service writes there; disks are full; roots cannot be written."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from container_manager.bot_directories import DEFAULT_BOT_USER, RootDirectory
from container_manager.errors import CapacityExceededError, SecretsUnavailableError, StateUnavailableError
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_secrets import HostSecrets
from tests.support.bots import NODE_UID
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user, and mounts file systems")

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
TIMES = 400


class Restless(threading.Thread):
    """Does something over and over, as the bots' user; counts how often it was ``done``."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(name="restless")
        self.done = 0
        self._act = act
        self._stopped = threading.Event()

    def run(self) -> None:
        # Affects this thread only, and drops root's file capabilities (setfsuid(2), capabilities(7)).
        ctypes.CDLL(None).setfsuid(NODE_UID)
        while not self._stopped.is_set():
            with suppress(OSError):
                self._act()
                self.done += 1

    def __enter__(self) -> Self:
        self.start()
        wait_until(lambda: self.done, "it has begun")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()


@pytest.fixture
def root(session_dir: Path) -> RootDirectory:
    path = Path(tempfile.mkdtemp(prefix="s", dir=session_dir))
    path.chmod(0o755)
    return RootDirectory(path, path)


@pytest.fixture
def elsewhere(session_dir: Path) -> Path:
    """A directory outside of the root, in which the bots' user may not write, but the service may."""
    directory = Path(tempfile.mkdtemp(prefix="e", dir=session_dir))
    directory.chmod(0o755)
    (directory / "b").mkdir()
    (directory / "b" / "file").write_text("kept")
    return directory


def tree(directory: Path) -> dict[str, str | None]:
    """Every path below a directory, with the content of files."""
    return {
        str(path.relative_to(directory)): path.read_text() if path.is_file() else None for path in directory.rglob("*")
    }


@pytest.mark.parametrize("level", ["a", "a/b"])
def test_a_bot_that_exchanges_directories_for_links_receives_no_file_elsewhere(
    root: RootDirectory, elsewhere: Path, level: str
) -> None:
    files = HostFiles(root, DEFAULT_BOT_USER)
    files.put_files(BOT, {"a/b/file": b"x"})
    place = root.path / BOT / level
    away = root.path / BOT / "away"
    target = elsewhere if level == "a" else elsewhere / "b"
    before = tree(elsewhere)
    owners = {path: path.stat().st_uid for path in elsewhere.rglob("*")}

    def exchange() -> None:
        place.rename(away)
        place.symlink_to(target)
        place.unlink()
        away.rename(place)

    written = refused = 0
    with Restless(exchange) as bot:
        for number in range(TIMES):
            try:
                files.put_files(BOT, {"a/b/file": b"%d" % number, "a/b/new": b"x", f"a/b/d{number}/deep": b"x"})
                written += 1
            except StateUnavailableError:
                refused += 1
            if bot.done > 50 and written and refused:
                break
    assert bot.done > 0
    assert written + refused > 1
    assert before == tree(elsewhere)
    assert owners == {path: path.stat().st_uid for path in elsewhere.rglob("*")}
    assert [BOT] == [path.name for path in root.path.iterdir()]


def test_a_bot_that_keeps_writing_has_its_state_removed_all_the_same(root: RootDirectory) -> None:
    """Through a descriptor that a process of the bot has kept: its container is gone, and something else holds it."""
    files = HostFiles(root, DEFAULT_BOT_USER)
    files.put_files(BOT, {"a/file": b"x"})
    numbers = iter(range(10**9))
    directory = os.open(root.path / BOT, os.O_RDONLY | os.O_DIRECTORY)

    def write() -> None:
        os.mkdir(f"n{next(numbers)}", dir_fd=directory)

    try:
        with Restless(write) as bot:
            files.delete_state(BOT)
            assert not (root.path / BOT).exists()
            written = bot.done
            assert written == bot.done, "it cannot write any more"
    finally:
        os.close(directory)
    files.remove_leftovers()
    assert [] == list(root.path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_changes_nothing_and_leaves_nothing(small_disk: Path) -> None:
    root = RootDirectory(small_disk, small_disk)
    secrets, files = HostSecrets(root, DEFAULT_BOT_USER), HostFiles(root, DEFAULT_BOT_USER)
    secrets.put_secrets(BOT, {"A": b"old"})
    before = tree(small_disk)
    with pytest.raises(CapacityExceededError, match="No space left on device"):
        secrets.put_secrets(BOT, {f"N{number}": bytes(64 * 1024) for number in range(20)} | {"A": b"new"})
    with pytest.raises(CapacityExceededError, match="No space left on device"):
        files.put_files(BOT, {"A": b"new", "big": bytes(1024 * 1024), "dir/big": bytes(1024 * 1024)})
    assert before == tree(small_disk)
    secrets.put_secrets(BOT, {"A": b"new"})
    assert {BOT: None, f"{BOT}/A": "new"} == tree(small_disk)


def test_a_read_only_root_is_refused_with_its_reason(small_disk: Path) -> None:
    root = RootDirectory(small_disk, small_disk)
    secrets, files = HostSecrets(root, DEFAULT_BOT_USER), HostFiles(root, DEFAULT_BOT_USER)
    secrets.put_secrets(BOT, {"A": b"old"})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for call in (
        lambda: secrets.put_secrets(BOT, {"A": b"new"}),
        lambda: secrets.delete_secrets(BOT, ["A"]),
        lambda: secrets.delete_all_secrets(BOT),
    ):
        with pytest.raises(SecretsUnavailableError, match="Read-only file system"):
            call()
    for call in (lambda: files.put_files(BOT, {"a": b""}), lambda: files.delete_state(BOT)):
        with pytest.raises(StateUnavailableError, match="Read-only file system"):
            call()
    assert ["A"] == [secret.name for secret in secrets.list_secrets(BOT)]
    secrets.remove_leftovers()


def test_a_bots_directory_on_a_file_system_of_its_own_is_refused_with_its_reason(
    root: RootDirectory, small_disk: Path
) -> None:
    """A rename would not be one step."""
    (root.path / BOT).mkdir()
    subprocess.run(["mount", "--bind", str(small_disk), str(root.path / BOT)], check=True)
    try:
        with pytest.raises(SecretsUnavailableError, match="Invalid cross-device link"):
            HostSecrets(root, DEFAULT_BOT_USER).put_secrets(BOT, {"A": b"new"})
        with pytest.raises(StateUnavailableError, match="busy"):
            HostFiles(root, DEFAULT_BOT_USER).delete_state(BOT)
    finally:
        subprocess.run(["umount", str(root.path / BOT)], check=True)
    assert [] == list(small_disk.iterdir())
