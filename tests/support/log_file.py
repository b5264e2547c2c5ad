"""The engine's file of a container's log, written as the engine would write it with another clock, or damaged."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path


class LogFile:
    """The engine's file of a stopped container's log: what the engine would have written with another clock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, *lines: tuple[datetime, str], nanoseconds: int = 0) -> None:
        """Append entries of these times."""
        with self._path.open("a") as file:
            for moment, text in lines:
                time = f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
                file.write(json.dumps({"log": text, "stream": "stdout", "time": time}, separators=(",", ":")) + "\n")

    def damage(self, data: bytes) -> None:
        """Append bytes that are no entry."""
        with self._path.open("ab") as file:
            file.write(data)

    def entries_before(self, damage: bytes) -> int:
        """How many entries are before the damage."""
        return self._path.read_bytes().partition(damage)[0].count(b"\n")

    def rotate(self) -> None:
        """Begin a new file, as the engine does when this one is full."""
        self._path.rename(f"{self._path}.1")
        self._path.touch()

    def drop(self, count: int) -> None:
        """Remove the oldest entries, as the engine's rotation does."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        self._path.write_bytes(b"".join(lines[count:]))
