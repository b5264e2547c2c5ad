"""An archive gives back the state that was archived, but for what may not be restored."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.errors import CapacityExceededError
from container_manager.maintenance import archive as archive_module
from container_manager.maintenance.archive import write_archive
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.manifest import FILE, MAX_BYTES, MAX_MANIFEST_BYTES, Entry, encoded
from container_manager.maintenance.unpacking import read_manifest
from container_manager.provisioning import tree_copy
from tests.unit.archives import MANIFEST, archived, picture, unpacked_bytes, written
from tests.unit.provisioned import USER


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


def test_a_backup_whose_manifest_nobody_could_read_is_not_made(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_MANIFEST_BYTES", 1_000)
    (tmp_path / "backups").mkdir(0o700)
    with pytest.raises(CapacityExceededError, match="manifest has more than 1000 bytes"):
        written(BackupStore(tmp_path / "backups"), state)
    assert [] == list((tmp_path / "backups").iterdir())


def test_the_manifest_of_every_state_that_can_be_copied_can_be_read() -> None:
    """JSON has six bytes for a control character, a surrogate escape and half of a character beyond 16 bits."""
    one = Entry("", FILE, 0o777, -(1 << 63), MAX_BYTES, "f" * 64)
    size = len(encoded(replace(MANIFEST, entries=[one] * 100))) // 100 * tree_copy.MAX_ENTRIES
    assert size + 6 * tree_copy.MAX_PATHS_BYTES < MAX_MANIFEST_BYTES


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=[]), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)


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


def test_an_archive_has_no_name_until_it_is_complete(state: Path, tmp_path: Path) -> None:
    """So a killed process leaves nothing, and another service on the same root takes nothing for a leftover."""
    root = tmp_path / "backups"
    root.mkdir(0o700)
    seen: list[list[Path]] = []
    directory = os.open(state, os.O_RDONLY)
    try:
        BackupStore(root).write("b", directory, MANIFEST, lambda _: seen.append(list(root.iterdir())))
    finally:
        os.close(directory)
    assert seen
    assert [] == [path for paths in seen for path in paths]
    assert {("b.tar.gz", 0o600), ("b.sha256", 0o600)} == {
        (path.name, stat.S_IMODE(path.stat().st_mode)) for path in root.iterdir()
    }
