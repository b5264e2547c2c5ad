"""An archive that no service has written, or that is damaged, is refused, and takes little memory."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.errors import BackupCorruptError
from container_manager.maintenance import manifest as manifest_module
from container_manager.maintenance.manifest import DIRECTORY, LINK, Entry
from tests.unit.archives import (
    CONFIG,
    MANIFEST,
    archive_of,
    archived,
    file_entry,
    member,
    picture,
    state_member,
    unpacked_bytes,
)

DIRECTORY_ENTRY = Entry("d", DIRECTORY, 0o700)
HOSTILE = {
    "an absolute path": archive_of([file_entry("/etc/x")], state_member("/etc/x")),
    "a path that leads out": archive_of([file_entry("../x")], state_member("../x")),
    "a path that leads out further below": archive_of(
        [DIRECTORY_ENTRY, file_entry("d/../../x")], state_member("d", b"", tarfile.DIRTYPE), state_member("d/../../x")
    ),
    "a link that leads out": archive_of(
        [Entry("l", LINK, target="/etc")], state_member("l", b"", tarfile.SYMTYPE, "/etc")
    ),
    "a link that leads out by its parents": archive_of(
        [Entry("l", LINK, target="a/../../x")], state_member("l", b"", tarfile.SYMTYPE, "a/../../x")
    ),
    "a file below a link": archive_of(
        [Entry("l", LINK, target="d"), file_entry("l/x")],
        state_member("l", b"", tarfile.SYMTYPE, "d"),
        state_member("l/x"),
    ),
    "a link in the place of a directory": archive_of(
        [DIRECTORY_ENTRY, file_entry("d/x")], state_member("d", b"", tarfile.SYMTYPE, "/tmp"), state_member("d/x")
    ),
    "a device": archive_of([Entry("x", "device")], state_member("x", b"", tarfile.CHRTYPE)),
    "a device in the place of a file": archive_of([file_entry("x")], state_member("x", b"", tarfile.BLKTYPE)),
    "a pipe in the place of a file": archive_of([file_entry("x")], state_member("x", b"", tarfile.FIFOTYPE)),
    "a hard link": archive_of([file_entry("x")], state_member("x", b"", tarfile.LNKTYPE, "state/y")),
    "another content": archive_of([file_entry("x", b"old")], state_member("x", b"new")),
    "a larger content": archive_of([file_entry("x", b"old")], state_member("x", b"older")),
    "another name": archive_of([file_entry("x")], state_member("y")),
    "a file too many": archive_of([file_entry("x")], state_member("x"), state_member("y")),
    "a file too few": archive_of([file_entry("x"), file_entry("y")], state_member("x")),
    "a file twice": archive_of([file_entry("x"), file_entry("x")], state_member("x"), state_member("x")),
    "another user's rights": archive_of([file_entry("x", mode=0o4755)], state_member("x")),
    "no checksum": archive_of([file_entry("x", sha256="")], state_member("x")),
    "a negative size": archive_of([file_entry("x", size=-1)], state_member("x")),
    "an impossible time": archive_of([file_entry("x", mtime_ns=1 << 70)], state_member("x")),
    "more bytes than are restored": archive_of([file_entry("x", size=1 << 50)], state_member("x")),
    "a NUL in a name": archive_of([file_entry("x\0y")], state_member("x")),
    "too long a name": archive_of([file_entry("x" * 256)], state_member("x" * 256)),
    "too deep a path": archive_of(
        [Entry("/".join("d" * count), DIRECTORY) for count in range(1, 70)], state_member("d", b"", tarfile.DIRTYPE)
    ),
    "no manifest": gzip.compress(state_member("x") + bytes(1024)),
    "a manifest that is a link": gzip.compress(member("manifest.json", b"", tarfile.SYMTYPE, "/etc/passwd")),
    "a manifest of another format": gzip.compress(member("manifest.json", b'{"format": 2}') + bytes(1024)),
    "a manifest that is no JSON": gzip.compress(member("manifest.json", b"{") + bytes(1024)),
    "a manifest of nested lists": gzip.compress(member("manifest.json", b"[" * 100_000) + bytes(1024)),
    "a manifest that is a list": gzip.compress(member("manifest.json", b"[]") + bytes(1024)),
    "an impossible time of the backup": archive_of([], manifest=replace(MANIFEST, create_time_ns=1 << 70)),
    "an image that is no text": archive_of([], manifest=replace(MANIFEST, config=replace(CONFIG, image="\ud800"))),
    "an image's id that is a list": archive_of([], manifest=replace(MANIFEST, image_id=[])),  # type: ignore[arg-type]
    "no tar": gzip.compress(b"x" * 10_000),
    "no gzip": b"x" * 10_000,
    "nothing": b"",
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE)
def test_an_archive_that_no_service_would_make_is_refused(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(BackupCorruptError):
        unpacked_bytes(archive, tmp_path / "target")
    # Nothing beside the directory that it was unpacked into.
    assert ["target"] == [path.name for path in tmp_path.iterdir()]


def headers(kind: bytes, size: int, *, times: int = 1) -> list[bytes]:
    """Members of a tar that say something of the next one."""
    return [member("././@header", b"%d comment=" % size + bytes(size), kind) for _ in range(times)]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize(("size", "times"), [(16 << 20, 1), (1 << 10, 2000)])
def test_what_an_archive_says_of_its_members_takes_little_memory(
    tmp_path: Path, kind: bytes, size: int, times: int, is_first: bool
) -> None:
    """An archive of a few kilobytes may have any number of headers of any size."""
    hostile = b"".join(headers(kind, size, times=times))
    archive = gzip.compress(hostile + gzip.decompress(archive_of([])), 1) if is_first else archive_of([], hostile)
    del hostile
    tracemalloc.start()
    try:
        with pytest.raises(BackupCorruptError):
            unpacked_bytes(archive, tmp_path / "target")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_headers_of_all_members_together_are_not_remembered(tmp_path: Path) -> None:
    """As other programs write them: each says something else of all the following members."""
    names = [f"f{number}" for number in range(80)]
    members = [
        member("g", b"%d k%s=" % (100_000, name.encode()) + bytes(99_000), tarfile.XGLTYPE) + state_member(name)
        for name in names
    ]
    archive = archive_of([file_entry(name) for name in names], *members)
    tracemalloc.start()
    try:
        unpacked_bytes(archive, tmp_path / "target")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert set(names) == {path.name for path in (tmp_path / "target").iterdir()}


SEALED = replace(MANIFEST, secrets_bytes=3, secrets_sha256=hashlib.sha256(b"xyz").hexdigest())


def test_encrypted_secrets_are_verified_and_not_unpacked(tmp_path: Path) -> None:
    files = [state_member("f", b"x")]
    entries = [file_entry("f", b"x")]
    archive = archive_of(entries, member("secrets.tar.age", b"xyz"), *files, manifest=SEALED)
    assert unpacked_bytes(archive, tmp_path / "target").secrets_sha256
    assert ["f"] == [path.name for path in (tmp_path / "target").iterdir()]
    for number, members in enumerate(
        (
            [],
            files,
            [member("secrets.tar.age", b"xyy"), *files],
            [member("secrets", b"xyz"), *files],
            [member("secrets.tar.age", b"xyz1"), *files],
        )
    ):
        with pytest.raises(BackupCorruptError):
            unpacked_bytes(archive_of(entries, *members, manifest=SEALED), tmp_path / str(number))
    with pytest.raises(BackupCorruptError):
        unpacked_bytes(archive_of(entries, member("secrets.tar.age", b"xyz"), *files), tmp_path / "unannounced")


@pytest.mark.parametrize(("size", "sha256"), [(3, ""), (0, "ab" * 32), (-1, "ab" * 32), (1 << 40, "ab" * 32), (3, "x")])
def test_impossible_secrets_are_refused(tmp_path: Path, size: int, sha256: str) -> None:
    manifest = replace(MANIFEST, secrets_bytes=size, secrets_sha256=sha256)
    with pytest.raises(BackupCorruptError):
        unpacked_bytes(archive_of([], manifest=manifest), tmp_path / "target")


def test_too_many_files_are_refused_before_any_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of([file_entry("x"), file_entry("y")], state_member("x"), state_member("y"))
    monkeypatch.setattr(manifest_module, "MAX_ENTRIES", 1)
    with pytest.raises(BackupCorruptError, match="2 files; at most 1"):
        unpacked_bytes(archive, tmp_path / "target")
    assert [] == list((tmp_path / "target").iterdir())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good archive."""
    state = tmp_path_factory.mktemp("state")
    (state / "d").mkdir()
    (state / "d" / "file").write_bytes(os.urandom(500))
    (state / "link").symlink_to("d/file")
    return archived(state)


@given(data=st.data())
def test_a_damaged_archive_is_refused(
    good: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any byte that has changed, and any end that is missing."""
    target = tmp_path_factory.mktemp("damaged") / "target"
    # RFC 1952: what the header says of time, flags and system decides nothing.
    index = data.draw(st.integers(10, len(good) - 1))
    if data.draw(st.booleans()):
        damaged = good[:index]
    else:
        damaged = good[:index] + bytes((good[index] ^ data.draw(st.integers(1, 255)),)) + good[index + 1 :]
    try:
        unpacked_bytes(damaged, target)
    except BackupCorruptError:
        return
    unpacked_bytes(good, target.parent / "good")
    assert picture(target.parent / "good") == picture(target)
