"""An archive gives back the state that was archived; anything else is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import tracemalloc
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from container_manager.errors import BackupCorruptError, CapacityExceededError
from container_manager.maintenance import archive as archive_module
from container_manager.maintenance import manifest as manifest_module
from container_manager.maintenance.archive import write_archive
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.manifest import DIRECTORY, LINK, Entry, Manifest, decoded, encoded, leads_out
from container_manager.maintenance.unpacking import read_manifest
from tests.unit.archives import (
    CONFIG,
    MANIFEST,
    archive_of,
    file_entry,
    member,
    opened,
    put,
    state_member,
    unpacked_bytes,
)
from tests.unit.provisioned import USER

AS_GIVEN = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def archived(state: Path, manifest: Manifest = MANIFEST) -> bytes:
    """The archive of a state."""
    target = io.BytesIO()
    with ExitStack() as stack:
        write_archive(opened(state, stack), manifest, target, io.BytesIO)
    return target.getvalue()


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """What an archive keeps of each entry, by its path."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in directory.rglob("*"):
        found = path.lstat()
        if path.is_symlink():
            seen[os.fsdecode(path.relative_to(directory))] = (str(path.readlink()),)
        else:
            content = path.read_bytes() if path.is_file() else None
            seen[os.fsdecode(path.relative_to(directory))] = (found.st_mode & 0o170777, found.st_mtime_ns, content)
    return seen


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state with some of everything."""
    state = tmp_path / "state"
    (state / "a" / ("long" * 60)).mkdir(parents=True)
    (state / "a" / ("long" * 60) / ("name" * 60)).write_bytes(os.urandom(3_000_000))
    (state / "empty").touch(0o640)
    (state / "program").touch(0o4755)
    (state / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"x")
    (state / "a" / "link").symlink_to("../empty")
    os.utime(state / "empty", ns=(0, 1_600_000_000_123_456_789))
    (state / "a").chmod(0o750)
    return state


def test_a_state_comes_back_as_it_was(state: Path, tmp_path: Path) -> None:
    before = picture(state)
    manifest = unpacked_bytes(archived(state), tmp_path / "target")
    # No program gets another user's rights by being restored.
    mode, *further = before["program"]
    before["program"] = (int(str(mode)) & ~stat.S_ISUID, *further)
    assert before == picture(tmp_path / "target")
    assert replace(MANIFEST, entries=manifest.entries) == replace(
        manifest, image_digests=tuple(manifest.image_digests), left_out=()
    )
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (tmp_path / "target").rglob("*")}
    assert {tuple(USER)} == owners


def test_any_program_that_reads_tar_reads_an_archive(state: Path, tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_bytes(archived(state))
    listed = subprocess.run(["tar", "-tzf", tmp_path / "b.tar.gz"], check=True, capture_output=True).stdout
    assert b"manifest.json" == listed.splitlines()[0]
    assert b"state/a/link" in listed.splitlines()


def test_the_manifest_is_read_without_the_rest(state: Path) -> None:
    archive = archived(state)
    assert MANIFEST.config == read_manifest(io.BytesIO(archive[: len(archive) // 2])).config


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with (tmp_path / "state" / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"data")
    unpacked_bytes(archived(tmp_path / "state"), tmp_path / "target")
    assert picture(tmp_path / "state") == picture(tmp_path / "target")
    assert (tmp_path / "target" / "sparse").stat().st_blocks * 512 < 3 << 20


def test_links_that_lead_out_of_the_state_are_left_out_and_named(state: Path, tmp_path: Path) -> None:
    for name, target in {"abs": "/etc", "up": "../..", "a/up": "b/../../../c", "loop": "loop"}.items():
        (state / name).symlink_to(target)
    manifest = unpacked_bytes(archived(state), tmp_path / "target")
    assert ["a/up", "abs", "up"] == sorted(manifest.left_out)
    assert "loop" in picture(tmp_path / "target")


def test_a_bot_without_state_has_an_archive_too(tmp_path: Path) -> None:
    target = io.BytesIO()
    write_archive(None, MANIFEST, target, io.BytesIO)
    assert [] == unpacked_bytes(target.getvalue(), tmp_path / "target").entries


def test_a_state_of_too_many_bytes_is_not_archived(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1_000_000)
    with pytest.raises(CapacityExceededError, match="more than 1000000 bytes"):
        archived(state)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=[]), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)


@AS_GIVEN
@given(
    files=st.dictionaries(NAMES.map(lambda name: os.fsdecode(name.encode("utf-8", "replace"))), st.binary(max_size=50))
)
def test_whatever_its_files_are_called_a_state_comes_back(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("names")
    (directory / "state" / "in").mkdir(parents=True)
    for name, content in files.items():
        (directory / "state" / "in" / name).write_bytes(content)
    unpacked_bytes(archived(directory / "state"), directory / "target")
    assert picture(directory / "state") == picture(directory / "target")


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


@AS_GIVEN
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


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = replace(MANIFEST, entries=[Entry("d", DIRECTORY, 0o700, -1), file_entry("d/\udcff")], left_out=["s"])
    assert manifest == replace(decoded(encoded(manifest)), image_digests=tuple(manifest.image_digests))


def test_a_manifest_of_the_first_services_is_read() -> None:
    entries = [Entry("d", DIRECTORY, 0o700, 1), file_entry("d/f", b"x")]
    for each in ([], entries[:1], entries):
        former = json.dumps(json.loads(encoded(replace(MANIFEST, entries=each))), indent=1)
        assert each == decoded(former.encode()).entries


@pytest.mark.parametrize("end", ["", "\n ]", "\n ]\n}x", ",\n ]\n}", "{}\n ]\n}"])
def test_entries_that_do_not_end_as_they_should_are_refused(end: str) -> None:
    content = encoded(replace(MANIFEST, entries=[file_entry("x")]))
    with pytest.raises(BackupCorruptError):
        decoded(content.removesuffix(b"\n ]\n}") + end.encode())


MANY = replace(MANIFEST, entries=[file_entry(f"file-{number}", b"%d" % number) for number in range(20_000)])


def test_a_manifest_of_many_files_takes_little_more_memory_than_its_text() -> None:
    tracemalloc.start()
    try:
        size = len(encoded(MANY))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * size


def test_of_a_manifest_of_many_files_little_is_decoded_without_letting_other_threads_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, decode, sizes = encoded(MANY), json.loads, []

    def measured(text: str) -> Any:
        sizes.append(len(text))
        return decode(text)

    monkeypatch.setattr(json, "loads", measured)
    assert MANY.entries == decoded(content).entries
    assert max(sizes) < 5_000


def test_a_list_reads_the_descriptions_of_archives_and_not_their_entries(tmp_path: Path) -> None:
    archive = archive_of(MANY.entries)
    tmp_path.chmod(0o700)
    put(tmp_path, archive[: len(archive) // 2])
    (listed,) = BackupStore(tmp_path).list()
    assert (MANIFEST.config, []) == (listed.manifest.config, listed.manifest.entries)


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False),
        ("a", "../b", True),
        ("a/b", "../c", False),
        ("a/b", "../../c", True),
        ("a/b", "c/../../../d", True),
        ("a", ".", False),
        ("a", "/", True),
        ("a", "", True),
    ],
)
def test_where_a_link_leads_is_told_by_its_text(path: str, target: str, out: bool) -> None:
    assert out == leads_out(path, target)
