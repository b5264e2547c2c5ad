"""Directories and files by descriptor: no step follows a link, and none depends on a path that others can change."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from container_manager.bot_directories import BotUser, give
from container_manager.errors import CapacityExceededError, ContainerManagerError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@contextmanager
def failures_as(error: type[ContainerManagerError], what: str, bot_id: str) -> Iterator[None]:
    """Raise ``error``, which names ``what``, for an :class:`OSError`; for no room :class:`CapacityExceededError`."""
    try:
        yield
    except OSError as exc:
        message = f"{what} cannot be used: {exc.strerror}"
        if exc.errno in _EXHAUSTED:
            raise CapacityExceededError(message, bot_id=bot_id) from exc
        raise error(message, bot_id=bot_id) from exc


def _open_directory(name: str, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


@contextmanager
def opened_directory(name: str, parent: int) -> Iterator[int]:
    """A directory in ``parent``, for reading. Raises :class:`OSError` for a link and anything else that is none."""
    descriptor = _open_directory(name, parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_below(root: int, path: str) -> Iterator[int]:
    """The directory at a path below ``root``, which is at the empty one. No part is a link. Raises :class:`OSError`."""
    directory = os.dup(root)
    try:
        for name in path.split("/") if path else ():
            inner = _open_directory(name, directory)
            os.close(directory)
            directory = inner
        yield directory
    finally:
        os.close(directory)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything: a system call may write a part."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def write_sparse(descriptor: int, piece: bytes) -> None:
    """Write a piece of a file, or leave a hole for one of zeros: a sparse file may be larger than the disk.

    The caller gives the file its size at the end.
    """
    if piece == bytes(len(piece)):
        os.lseek(descriptor, len(piece), os.SEEK_CUR)
    else:
        write_all(descriptor, piece)


def write_file(name: str, parent: int, content: bytes, user: BotUser) -> None:
    """Write a new file for ``user``; it is on the disk when this returns."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=parent)
    try:
        write_all(descriptor, content)
        give(descriptor, user, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def opened_lock_file(name: str, parent: int) -> int:
    """A descriptor of a file to lock with flock(2), which is made if it is missing; for the caller to close.

    On NFS and CIFS, other machines see locks of regular files only, and a lock for one holder needs a file that is open
    for writing.
    """
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=parent)


def exists(name: str, parent: int) -> bool:
    """Whether there is anything of this name."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def names_in(directory: int) -> list[str]:
    """The names of a directory's entries, in any order."""
    return os.listdir(directory)


def is_directory(name: str, parent: int) -> bool:
    """Whether there is a directory of this name; a link to one is none."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def fsync_directory(directory: int) -> None:
    """Put changes of a directory's entries on the disk. It may be open as a path only."""
    with opened_directory(".", directory) as readable:
        os.fsync(readable)


def remove_all_in(directory: int, *, but: str = "") -> None:
    """Remove everything in a directory, ``but`` one entry, in which nobody else creates anything. Follows no link.

    Moves nested directories up before it empties them: a bot can nest them deeper than any stack or number of
    descriptors.
    """
    while names := [name for name in names_in(directory) if name != but]:
        for name in names:
            if not _unlinked(name, directory):
                _remove_directory(name, directory)


def _remove_directory(name: str, parent: int) -> None:
    with opened_directory(name, parent) as directory, os.scandir(directory) as entries:
        _close_to_its_owner(directory)
        for entry in entries:
            if not _unlinked(entry.name, directory):
                os.rename(entry.name, f"up-{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=parent)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as exc:
        # An entry was not read because the directory changed meanwhile; the caller sees it again.
        if exc.errno != errno.ENOTEMPTY:
            raise


def _close_to_its_owner(directory: int) -> None:
    """A process of the bot may have kept a descriptor of it, and write faster than this process removes."""
    if os.fstat(directory).st_uid != os.geteuid():
        with suppress(PermissionError):
            os.fchmod(directory, 0)


def _unlinked(name: str, parent: int) -> bool:
    """Remove a file; False: it is a directory."""
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        return False
    return True
