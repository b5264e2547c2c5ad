"""Roots overlap when their directories are the same or one contains the other, however they are mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.root_overlap import overlap

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    """``real`` is mounted at ``mounted``, ``real/in it`` at ``else where``, and ``real/deep/er`` at ``er``."""
    for name in ("real/below", "real/in it/below", "real/deep/er", "mounted", "else where", "er", "apart"):
        (tmp_path / name).mkdir(parents=True)
    with ExitStack() as stack:
        for source, place in (("real", "mounted"), ("real/in it", "else where"), ("real/deep/er", "er")):
            mount = ["mount", "--bind", str(tmp_path / source), str(tmp_path / place)]
            if subprocess.run(mount, check=False, capture_output=True).returncode:
                pytest.skip("this user cannot mount")
            stack.callback(subprocess.run, ["umount", str(tmp_path / place)], check=True)
        yield tmp_path


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        ("real", "mounted", "are the same directory"),
        ("real", "mounted/below", "one contains the other"),
        ("real/below", "mounted", "one contains the other"),
        ("real/below", "mounted/below", "are the same directory"),
        ("apart", "mounted", None),
        ("real", "else where", "one contains the other"),
        ("mounted", "else where/below", "one contains the other"),
        ("real/in it", "else where", "are the same directory"),
        ("mounted/in it/below", "else where", "one contains the other"),
        ("real/deep", "er", "one contains the other"),
        ("real/below", "else where", None),
        ("else where", "er", None),
        ("apart", "er", None),
    ],
)
def test_roots_overlap_wherever_their_directories_are_mounted(
    directories: Path, one: str, other: str, problem: str | None
) -> None:
    first, second = (RootDirectory(path, path) for path in (directories / one, directories / other))
    for problems in (overlap(first, second, None), overlap(second, first, None), overlap(first, None, second.path)):
        assert (problem is None) == (problems is None)
        assert problem is None or problem in str(problems)
