"""A copy of a bot's state is the state, whatever a bot puts into it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from container_manager.backend_maintenance import Copied
from container_manager.errors import StateTooLargeError
from container_manager.provisioning import tree_copy
from dev.debian import install


def copy(source: Path, target: Path, without: tuple[str, ...] = ()) -> Copied:
    """Copy a directory into a new one."""
    target.mkdir()
    descriptors = [os.open(path, os.O_RDONLY) for path in (source, target)]
    try:
        copied = tree_copy.copy_tree(*descriptors, without=without)
        tree_copy.sync_file_system(descriptors[1])
        return copied
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """All that matters of each entry, by its path."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [directory, *directory.rglob("*")]:
        found = path.lstat()
        owner = (found.st_uid, found.st_gid)
        if stat.S_ISLNK(found.st_mode):
            entry: tuple[object, ...] = (*owner, str(path.readlink()))
        else:
            entry = (*owner, oct(found.st_mode), found.st_mtime_ns)
        seen[str(path.relative_to(directory))] = (*entry, path.read_bytes() if path.is_file() else b"")
    return seen


def made_state(source: Path) -> Path:
    """A state with some of everything that a program may keep."""
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_bytes(os.urandom(3_000_000))
    (source / "a" / "empty").touch(0o640)
    (source / "a" / "link").symlink_to("/etc/shadow")
    (source / "a" / "dangling").symlink_to("../nowhere")
    os.utime(source / "a" / "empty", ns=(1, 2_000_000_003))
    (source / "a").chmod(0o750)
    if os.geteuid() == 0:
        os.chown(source / "a" / "empty", 1000, 1001)
    return source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return made_state(tmp_path / "source")


@pytest.fixture
def small_btrfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 MiB that can share blocks."""
    install(("mkfs.btrfs",))
    image, place = tmp_path / "image", tmp_path / "btrfs"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_where_a_file_system_can_share_blocks_copies_take_no_further_space(small_btrfs: Path) -> None:
    state = small_btrfs / "state"
    state.mkdir()
    content = os.urandom(100 << 20)
    (state / "large").write_bytes(content)
    copies = [small_btrfs / f"copy-{number}" for number in range(3)]
    assert [len(content)] * 3 == [copy(state, each).size_bytes for each in copies]
    (state / "large").write_bytes(b"changed")
    assert [True] * 3 == [content == (each / "large").read_bytes() for each in copies]


def test_files_directories_and_links_are_copied_with_all_that_belongs_to_them(source: Path, tmp_path: Path) -> None:
    before = picture(source)
    copied = copy(source, tmp_path / "copy")
    assert before == picture(tmp_path / "copy")
    assert (6, 3_000_000, []) == (copied.entries, copied.size_bytes, copied.left_out)


def test_no_copy_has_the_rights_of_another_user(source: Path, tmp_path: Path) -> None:
    (source / "a" / "empty").chmod(0o6751)
    copy(source, tmp_path / "copy")
    assert 0o751 == stat.S_IMODE((tmp_path / "copy" / "a" / "empty").stat().st_mode)


def test_a_file_with_two_names_becomes_two_files_that_the_source_does_not_share(source: Path, tmp_path: Path) -> None:
    """What the new version writes must not appear in the copy."""
    os.link(source / "a" / "empty", source / "other")
    copy(source, tmp_path / "copy")
    assert [1, 1] == [(tmp_path / "copy" / name).stat().st_nlink for name in ("a/empty", "other")]


def test_holes_stay_holes(source: Path, tmp_path: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 30)
        file.write(b"data")
    copied = copy(source, tmp_path / "copy")
    found = (tmp_path / "copy" / "sparse").stat()
    assert 1 << 40 == found.st_size
    assert found.st_blocks * 512 < 1_000_000
    assert copied.size_bytes < 4_000_000
    with (tmp_path / "copy" / "sparse").open("rb") as file:
        file.seek(1 << 30)
        assert b"data\0" == file.read(5)


def test_sockets_pipes_and_devices_are_left_out_and_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(source / "pipe")
    monkeypatch.chdir(source / "a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.sock")
    copied = copy(source, tmp_path / "copy")
    assert ["a/s.sock", "pipe"] == copied.left_out
    assert not (tmp_path / "copy" / "pipe").exists()


def test_what_is_to_be_left_out_is_not_copied(source: Path, tmp_path: Path) -> None:
    copy(source, tmp_path / "copy", without=("a/b", "nothing"))
    assert ["a", "a/dangling", "a/empty", "a/link"] == sorted(
        str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")
    )


def test_a_link_that_takes_the_place_of_a_file_meanwhile_is_not_followed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bot that runs exchanges a file, or a directory, after it was looked at."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    real = os.stat

    def exchanged(name: str, **further: object) -> os.stat_result:
        found = real(name, **further)  # type: ignore[arg-type]
        for path in (source / "a" / "b", source / "a" / "empty"):
            if name == path.name and not path.is_symlink():
                path.rename(tmp_path / f"moved-{name}")
                path.symlink_to(secret if name == "b" else secret / "file")
        return found

    monkeypatch.setattr(os, "stat", exchanged)
    with pytest.raises(OSError, match="symbolic links"):
        copy(source, tmp_path / "copy")
    monkeypatch.undo()
    assert [] == [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("limit", "words"),
    [("MAX_ENTRIES", "more than 3 files"), ("MAX_DEPTH", "deeper than 3"), ("MAX_PATHS_BYTES", "more than 3 bytes")],
)
def test_a_state_of_too_many_or_too_deep_files_is_refused(
    source: Path, tmp_path: Path, limit: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a" / "b" / "c" / "d").mkdir(parents=True)
    monkeypatch.setattr(tree_copy, limit, 3)
    with pytest.raises(StateTooLargeError, match=words):
        copy(source, tmp_path / "copy")


def test_targets_of_links_and_names_of_pipes_count_as_paths(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup's manifest has them, too."""
    monkeypatch.setattr(tree_copy, "MAX_PATHS_BYTES", 100)
    (source / "x").symlink_to("t" * 70)
    with pytest.raises(StateTooLargeError, match="more than 100 bytes"):
        copy(source, tmp_path / "copy")
    (source / "x").unlink()
    os.mkfifo(source / ("p" * 70))
    with pytest.raises(StateTooLargeError, match="more than 100 bytes"):
        copy(source, tmp_path / "other")


def test_a_directory_with_too_many_entries_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All names of a very large one would take much memory, and much time in which no other thread runs."""
    (tmp_path / "source").mkdir()
    for number in range(100):
        (tmp_path / "source" / str(number)).touch()
    scan, read = os.scandir, []

    @contextmanager
    def counted(directory: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scan(directory) as entries:
            yield (read.append(entry) or entry for entry in entries)  # type: ignore[func-returns-value]

    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr(os, "listdir", None)
    monkeypatch.setattr(tree_copy, "MAX_ENTRIES", 3)
    with pytest.raises(StateTooLargeError, match="more than 3 files"):
        copy(tmp_path / "source", tmp_path / "copy")
    assert 4 == len(read)
