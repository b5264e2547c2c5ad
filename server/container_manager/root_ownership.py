"""Whether other users can replace a bot's directory by a symbolic link.

The engine opens a bot's directory by name, as root, at each start and restart of the container, after any check of
ours. So only users that already have the engine's rights may write to the root directory: root, and the user that this
service runs as.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# The kernel follows at most this many links in one path (path_resolution(7)).
_MAX_LINKS = 40


class UnusableRootError(Exception):
    """The service cannot use a root directory. ``str()`` says why, as the end of a sentence about the root."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault)
        self.remedy = remedy


def check_usable(path: Path, *, private: bool = False) -> None:
    """Raise :class:`UnusableRootError` unless this process can use the root directory ``path``, and no other user.

    ``private``: other users must not even see what is in it.
    """
    mode = "0700" if private else "0711"
    try:
        found = path.stat()
        # Really open and enter it: access(2) ignores this process's capabilities.
        os.scandir(path).close()
        (path / "..").stat()
    except FileNotFoundError:
        raise UnusableRootError("does not exist", f"create it first, as with: install -d -m {mode} {path}") from None
    except NotADirectoryError:
        raise UnusableRootError("is not a directory", "give another one") from None
    except PermissionError:
        raise UnusableRootError("cannot be read by this user", "run it as the owner of the root") from None
    except (OSError, ValueError) as exc:
        raise UnusableRootError(f"cannot be used: {exc}", "give another one") from None
    if fault := fault_of_root(found):
        owner = f"run it as the user {found.st_uid}, or " if found.st_uid not in (0, os.geteuid()) else ""
        remedy = (
            f"{owner}make it writable for its owner alone, root or this user: "
            f"chown {os.geteuid()} {path}; chmod go-w {path}"
        )
        raise UnusableRootError(fault, remedy)
    if private and found.st_mode & _OTHERS:
        fault = f"gives rights to other users (mode {stat.S_IMODE(found.st_mode):04o})"
        raise UnusableRootError(fault, f"backups have all that bots know: chmod 0700 {path}")


def fault_of_root(root: os.stat_result) -> str | None:
    """What is wrong with a root directory that has this status; ``None``: no other user can replace its entries."""
    if root.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {root.st_uid}"
    # The sticky bit does not help: a bot's directory belongs to the bot's user, who could replace it.
    if root.st_mode & _WRITABLE_BY_OTHERS:
        return f"is writable by others (mode {stat.S_IMODE(root.st_mode):04o})"
    return None


def faults_above(path: Path) -> Iterator[str]:
    """What is wrong with the directories above ``path``: through them other users could replace it as a whole."""
    for directory in _directories(path):
        status = directory.stat()
        if status.st_uid not in (0, os.geteuid()):
            yield f"{directory} belongs to the user {status.st_uid}"
        elif status.st_mode & _WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX:
            yield f"{directory} is writable by others"


def _directories(path: Path) -> Iterator[Path]:
    """Every directory that the kernel searches to resolve ``path``, including those that links lead through."""
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
