"""The manifest of an archive: what it says, and what it takes to read and write one of many files."""

from __future__ import annotations

import json
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from container_manager.errors import BackupCorruptError
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.manifest import DIRECTORY, Entry, decoded, encoded, leads_out
from tests.unit.archives import MANIFEST, archive_of, file_entry, put


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
    content, decode, sizes, this = encoded(MANY), json.loads, [], threading.get_ident()

    def measured(text: str) -> Any:
        if threading.get_ident() == this:
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


def test_a_list_shows_the_checksum_of_an_archive_as_soon_as_a_file_has_it(tmp_path: Path) -> None:
    """It does not read the archive for that."""
    tmp_path.chmod(0o700)
    put(tmp_path, archive_of([]))
    store = BackupStore(tmp_path)
    assert [""] == [backup.sha256 for backup in store.list()]
    (tmp_path / "backup.sha256").write_text("ab" * 32 + "  x\n")
    for _ in range(2):
        assert ["ab" * 32] == [backup.sha256 for backup in store.list()]


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
