"""Whether a root directory is safe from others: who may write in it can put a link in a bot's place at any moment.

The engine opens a bot's directory by its name, when the container starts and at each of its restarts, after whatever
was checked before, and as root. So nobody may be able to exchange what the name stands for who does not have the
engine's powers anyway: root, and the user that this service runs as.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# As many links as the kernel follows in one path (path_resolution(7)).
_MAX_LINKS = 40


def fault_of_root(root: os.stat_result) -> str | None:
    """What is wrong with a root directory that has this status; ``None``: nobody else can exchange its entries."""
    if root.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {root.st_uid}"
    # The sticky bit is no help: a bot's directory belongs to the bot's user, who could exchange that one.
    if root.st_mode & _WRITABLE_BY_OTHERS:
        return f"is writable by others (mode {stat.S_IMODE(root.st_mode):04o})"
    return None


def faults_above(path: Path) -> Iterator[str]:
    """What is wrong with the directories that lead to ``path``: others could exchange it as a whole."""
    for directory in _directories(path):
        status = directory.stat()
        if status.st_uid not in (0, os.geteuid()):
            yield f"{directory} belongs to the user {status.st_uid}"
        elif status.st_mode & _WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX:
            yield f"{directory} is writable by others"


def _directories(path: Path) -> Iterator[Path]:
    """Every directory that the kernel looks into on its way to ``path``, those on the way of links too."""
    todo = list(path.parts)
    links = 0
    current = Path("/")
    while todo:
        part = todo.pop(0)
        if part == "/":
            current = Path("/")
            continue
        yield current
        following = current / part
        if part == "..":
            current = current.parent
        elif following.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                return
            todo = [*following.readlink().parts, *todo]
        else:
            current = following
