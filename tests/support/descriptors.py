"""Descriptors of this process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def opened_below(directory: Path) -> list[Path]:
    """What this process has open of a directory, the directory itself among it."""
    opened = []
    for link in Path("/proc/self/fd").iterdir():
        # Closed meanwhile.
        with suppress(FileNotFoundError):
            opened.append(link.readlink())
    return [path for path in opened if path.is_relative_to(directory)]
