"""Files in bots' state directories: whole, for the bots' user, and never through what the bot has put in their way."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.errors import CapacityExceededError, ContainerManagerError, StateUnavailableError
from container_manager.provisioning import descriptors
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_secrets import HostSecrets
from tests.unit.provisioned import BOT, OTHER, USER, contents, entries, owned, root_at, staged

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def root(tmp_path: Path) -> RootDirectory:
    return root_at(tmp_path / "state")


@pytest.fixture
def files(root: RootDirectory) -> HostFiles:
    return HostFiles(root, USER)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory outside of the root, to which a bot would like to write."""
    directory = tmp_path / "outside"
    directory.mkdir(mode=0o777)
    (directory / "file").write_text("kept")
    return directory


def bind(path: Path) -> None:
    """Make a unix socket there."""
    with socket.socket(socket.AF_UNIX) as listener:
        # A path may have 107 bytes only.
        descriptor = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
        os.close(descriptor)


def placed(outside: Path) -> dict[str, Callable[[Path], Any]]:
    """What a bot can put at a path of its state."""
    return {
        "link to a directory": lambda path: path.symlink_to(outside),
        "relative link": lambda path: path.symlink_to(os.path.relpath(outside, path.parent)),
        "link to a file": lambda path: path.symlink_to(outside / "file"),
        "dangling link": lambda path: path.symlink_to(outside / "new"),
        "link to itself": lambda path: path.symlink_to(path.name),
        "file": lambda path: path.write_text("x"),
        "hard link": lambda path: os.link(outside / "file", path),
        "fifo": os.mkfifo,
        "socket": bind,
        "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    }


KINDS = list(placed(Path()))


def refused(call: Callable[[], None], match: str, error: type[ContainerManagerError] = StateUnavailableError) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert BOT == caught.value.metadata["bot_id"]


def test_files_and_missing_directories_belong_to_the_bots_user(files: HostFiles, root: RootDirectory) -> None:
    files.put_files(BOT, {"openclaw.json": b"{}", "workspace/notes/a.md": b"a", "workspace/b.md": b"b"})
    state = root.path / BOT
    assert {"openclaw.json": b"{}", "workspace/notes/a.md": b"a", "workspace/b.md": b"b"} == contents(state)
    for path in (state, *state.rglob("*")):
        assert (*USER, "0o700" if path.is_dir() else "0o600") == owned(path), path
    assert [] == staged(root)


def test_the_path_that_the_engine_sees_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    root = RootDirectory(tmp_path / "own", tmp_path / "host")
    HostFiles(root, USER).put_files(BOT, {"a": b"1"})
    HostSecrets(root, USER).put_secrets(OTHER, {"a": b"1"})
    assert ([BOT, OTHER], ["own"]) == (entries(root.path), entries(tmp_path))


def test_owner_and_mode_are_right_whatever_the_umask(files: HostFiles, root: RootDirectory) -> None:
    before = os.umask(0)
    try:
        files.put_files(BOT, {"a/b": b""})
    finally:
        os.umask(before)
    assert {(*USER, "0o700")} == {owned(root.path / BOT), owned(root.path / BOT / "a")}


def test_a_file_is_replaced_and_everything_else_is_left_as_it_is(files: HostFiles, root: RootDirectory) -> None:
    files.put_files(BOT, {"a/b": b"old", "a/c": b"kept"})
    (root.path / BOT / "a").chmod(0o755)
    files.put_files(BOT, {"a/b": b"new"})
    assert {"a/b": b"new", "a/c": b"kept"} == contents(root.path / BOT)
    assert "0o755" == owned(root.path / BOT / "a")[2]


def attributes(directory: Path) -> dict[Path, tuple[int, ...]]:
    """Of all below it; without the time of the last access, which looking for them changes."""
    found = {path: path.lstat() for path in directory.rglob("*")}
    return {
        path: (each.st_ino, each.st_mode, each.st_uid, each.st_gid, each.st_size, each.st_mtime_ns)
        for path, each in found.items()
    }


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_place_of_a_directory_is_followed_and_a_refusal_changes_nothing(
    files: HostFiles, root: RootDirectory, outside: Path, kind: str, depth: int
) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root can make devices")
    files.put_files(BOT, {"first": b"old"})
    parts = ["one", "two", "three"]
    place = root.path.joinpath(BOT, *parts[: depth + 1])
    place.parent.mkdir(parents=True, exist_ok=True)
    placed(outside)[kind](place)
    before = attributes(root.path / BOT)
    path = "/".join([*parts, "file"])
    refused(lambda: files.put_files(BOT, {"first": b"new", path: b"x"}), f"'{path}' in the bot's state directory")
    assert before == attributes(root.path / BOT)
    assert b"old" == (root.path / BOT / "first").read_bytes()
    assert {"file": b"kept"} == contents(outside)
    assert [] == staged(root)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_place_of_the_file_is_replaced_and_not_followed(
    files: HostFiles, root: RootDirectory, outside: Path, kind: str
) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root can make devices")
    (root.path / BOT).mkdir()
    placed(outside)[kind](root.path / BOT / "file")
    files.put_files(BOT, {"file": b"new"})
    assert {"file": b"new"} == contents(root.path / BOT)
    assert {"file": b"kept"} == contents(outside)


def test_a_directory_in_place_of_the_file_is_refused_before_anything_is_changed(
    files: HostFiles, root: RootDirectory
) -> None:
    files.put_files(BOT, {"a": b"old", "b/c": b""})
    refused(lambda: files.put_files(BOT, {"a": b"new", "b": b""}), "'b' in the bot's state directory is a directory")
    assert {"a": b"old", "b/c": b""} == contents(root.path / BOT)


@pytest.mark.parametrize("call", ["put", "delete"])
def test_a_link_in_place_of_the_state_directory_is_refused(
    files: HostFiles, root: RootDirectory, outside: Path, call: str
) -> None:
    (root.path / BOT).symlink_to(outside)
    does = (lambda: files.put_files(BOT, {"a": b""})) if call == "put" else (lambda: files.delete_state(BOT))
    refused(does, "is a symbolic link, which is never followed")
    assert {"file": b"kept"} == contents(outside)
    assert [BOT] == entries(root.path)


def test_a_directory_that_is_exchanged_between_two_steps_leads_nowhere_else(
    files: HostFiles, root: RootDirectory, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each opening of a directory, the bot has just put a link in its place."""
    files.put_files(BOT, {"a/b/file": b"old"})
    real_open = os.open
    state = root.path / BOT
    for name in ("a", "b"):
        place = state / "a" if name == "a" else state / "a" / "b"

        def exchanged(
            path: Any, flags: int, *rest: Any, _name: str = name, _place: Path = place, **further: Any
        ) -> int:
            if path == _name and not _place.is_symlink():
                _place.rename(state / "away")
                _place.symlink_to(outside)
            return real_open(path, flags, *rest, **further)

        with monkeypatch.context() as patch:
            patch.setattr(descriptors.os, "open", exchanged)
            refused(lambda: files.put_files(BOT, {"a/b/file": b"new"}), "Not a directory")
        place.unlink()
        (state / "away").rename(place)
    assert {"a/b/file": b"old"} == contents(state)
    assert {"file": b"kept"} == contents(outside)


@as_root
def test_a_directory_that_a_killed_process_has_not_given_away_is_completed(
    files: HostFiles, root: RootDirectory
) -> None:
    files.put_files(BOT, {"a": b""})
    (root.path / BOT / "empty").mkdir()
    (root.path / BOT / "full" / "inner").mkdir(parents=True)
    files.put_files(BOT, {"empty/file": b"", "full/file": b""})
    assert (*USER, "0o700") == owned(root.path / BOT / "empty")
    assert 0 == owned(root.path / BOT / "full")[0], "a directory with something in it was not created by such a call"


def test_a_state_directory_is_removed_with_all_that_is_in_it_and_no_link_is_followed(
    files: HostFiles, root: RootDirectory, outside: Path
) -> None:
    files.put_files(BOT, {"a/b/c": b"", "d": b""})
    files.put_files(OTHER, {"a": b"other"})
    for kind, place in placed(outside).items():
        if kind != "device" or os.geteuid() == 0:
            place(root.path / BOT / "a" / kind)
    for _ in range(2):
        files.delete_state(BOT)
        assert [OTHER] == entries(root.path)
    assert {"a": b"other"} == contents(root.path / OTHER)
    assert {"file": b"kept"} == contents(outside)


def test_a_tree_deeper_than_any_stack_and_any_path_is_removed_with_few_descriptors(
    files: HostFiles, root: RootDirectory, request: pytest.FixtureRequest
) -> None:
    # Should the product fail, pytest could not remove the tree: shutil.rmtree recurses.
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", root.path / BOT], check=True))
    files.put_files(BOT, {"a": b""})
    directory = os.open(root.path / BOT, os.O_RDONLY)
    for _ in range(5_000):
        os.mkdir("deeper", dir_fd=directory)
        Path(f"/proc/self/fd/{directory}/file").touch()
        inner = os.open("deeper", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    try:
        files.delete_state(BOT)
        assert [] == entries(root.path)
    finally:
        # pytest could not remove it.
        subprocess.run(["rm", "-rf", str(root.path)], check=True)


def test_directories_without_any_right_are_removed(files: HostFiles, root: RootDirectory) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs CAP_DAC_OVERRIDE")
    files.put_files(BOT, {"a/b": b""})
    (root.path / BOT / "a").chmod(0)
    (root.path / BOT).chmod(0)
    files.delete_state(BOT)
    assert [] == entries(root.path)


def test_without_a_state_root_files_are_refused_and_there_is_no_state_to_remove() -> None:
    files = HostFiles(None, USER)
    refused(lambda: files.put_files(BOT, {"a": b""}), "started without a state root")
    files.delete_state(BOT)
    files.remove_leftovers()


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_full_disk_changes_nothing(
    files: HostFiles, root: RootDirectory, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files.put_files(BOT, {"a/b": b"old"})

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(descriptors.os, step, failing)
        refused(lambda: files.put_files(BOT, {"a/b": b"new"}), "No space left", CapacityExceededError)
    assert {"a/b": b"old"} == contents(root.path / BOT)
    assert [] == staged(root)
