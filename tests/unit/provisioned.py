"""Roots for the tests of provisioning, and pictures of what is in them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.provisioning.staging import STAGING_PREFIX

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "7d1d8f3a-98b2-4a44-8a55-3f0b6a1c2d22"
# Without root, only the process's own user can own files.
_flock = fcntl.flock
USER = BotUser(1000, 1000) if os.geteuid() == 0 else BotUser(os.geteuid(), os.getegid())


def root_at(path: Path) -> RootDirectory:
    """A new root directory."""
    path.mkdir(mode=0o755)
    return RootDirectory(path, path)


def contents(directory: Path) -> dict[str, bytes]:
    """Every regular file below a directory, by its relative path. Follows no link."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if stat.S_ISREG(path.lstat().st_mode)
    }


def entries(directory: Path) -> list[str]:
    """The names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def owned(path: Path) -> tuple[int, int, str]:
    """Owner, group and mode."""
    found = path.lstat()
    return found.st_uid, found.st_gid, oct(stat.S_IMODE(found.st_mode))


def flock_on_nfs(descriptor: int, operation: int) -> None:
    """Lock a file as NFS lets another machine see it: see flock(2).

    What is locked on a directory stays on the machine, so it locks nothing for the others.
    """
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return
    if operation & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _flock(descriptor, operation)


def staged(root: RootDirectory) -> list[str]:
    """The staging directories in a root."""
    return [name for name in entries(root.path) if name.startswith(STAGING_PREFIX)]
