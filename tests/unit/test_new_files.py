"""Files that appear in a directory only when they are complete, also where none can be without a name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_manager.maintenance.new_files import new_file, remove_parts, temporary


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["files without names", "none, as on NFS"])
def has_unnamed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    opened = os.open

    def without(path: str, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, *arguments, **keywords)

    if request.param == "none, as on NFS":
        monkeypatch.setattr(os, "open", without)
    return bool(request.param == "files without names")


@pytest.mark.usefixtures("has_unnamed")
def test_a_file_has_its_name_when_it_is_complete_also_after_a_process_that_was_killed(
    root: int, tmp_path: Path
) -> None:
    (tmp_path / "name").write_bytes(b"of a process that was killed")
    with new_file("name", root) as file:
        file.write(b"content")
        file.flush()
        assert b"content" not in [path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".part"]
    assert {"name": b"content"} == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.usefixtures("has_unnamed")
def test_a_block_that_fails_leaves_nothing(root: int, tmp_path: Path) -> None:
    with pytest.raises(TypeError), new_file("name", root) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    with temporary(root) as file:
        file.write(b"content")
        assert [] == list(tmp_path.iterdir())
    assert [] == list(tmp_path.iterdir())


def test_what_a_killed_process_has_left_is_told_from_what_is_being_written(
    root: int, tmp_path: Path, has_unnamed: bool
) -> None:
    (tmp_path / f"{'0' * 16}.part").write_bytes(b"half")
    (tmp_path / "operator's.part").write_bytes(b"half")
    with new_file("name", root) as file:
        file.write(b"content")
        remove_parts(root)
        assert (1 if has_unnamed else 2) == len(list(tmp_path.glob("*.part")))
    assert {"name", "operator's.part"} == {path.name for path in tmp_path.iterdir()}
