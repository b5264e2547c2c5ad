"""Opens files that operators name, whatever they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def open_nonblocking(path: Path, flags: int = 0) -> BinaryIO:
    """A file, open for reading. Waits for no writer, should it be a pipe: look at its type before you read it.

    ``flags``: more flags of open(2). Raises :class:`OSError`, also for a directory.
    """
    return open(path, "rb", opener=lambda name, mode: os.open(name, mode | os.O_NONBLOCK | flags))
