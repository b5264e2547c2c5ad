"""Files that appear in a directory only when they are complete and on the disk.

Until then they have no name and go with the process. Where the file system has no such files, their names end in
``.part``, and what killed processes have left has to be removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from container_manager.provisioning.descriptors import names_in

_PART = re.compile(r"[0-9a-f]{16}\.part")
_MODE = 0o600


@contextmanager
def new_file(name: str, root: int) -> Iterator[IO[bytes]]:
    """A file that gets its name at the end of the block, when it is on the disk; none if the block raises."""
    file, part = _created(root)
    try:
        with file:
            yield file
            flush(file)
            if part:
                os.rename(part, name, src_dir_fd=root, dst_dir_fd=root)
            else:
                _link(file, name, root)
        os.fsync(root)
    except BaseException:
        if part:
            unlink(part, root)
        raise


def temporary(root: int) -> IO[bytes]:
    """A file without a name, on the root's file system: it goes with the process."""
    file, part = _created(root)
    if part:
        unlink(part, root)
    return file


def remove_parts(root: int) -> None:
    """Remove what killed processes have left of files that needed a name."""
    for name in names_in(root):
        if _PART.fullmatch(name):
            # One that is being written is locked.
            with suppress(OSError), _locked(name, root):
                unlink(name, root)


def flush(file: IO[bytes]) -> None:
    """Put on the disk what was written."""
    file.flush()
    os.fsync(file.fileno())


def unlink(name: str, root: int) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=root)


def _created(root: int) -> tuple[IO[bytes], str]:
    """A new file, and its name; the name is empty where the file system has files without one."""
    part = ""
    try:
        descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _MODE, dir_fd=root)
    except OSError as exc:
        # NFS and CIFS have none.
        if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        part = f"{secrets.token_hex(8)}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(part, flags, _MODE, dir_fd=root)
        # Tells it from what a killed process has left.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.fchmod(descriptor, _MODE)
    return open(descriptor, "w+b"), part  # noqa: PTH123 - a descriptor, for the caller to close


def _link(file: IO[bytes], name: str, root: int) -> None:
    # One of the same backup, written by a process that was killed before it was done.
    unlink(name, root)
    os.link(f"/proc/self/fd/{file.fileno()}", name, dst_dir_fd=root)


@contextmanager
def _locked(name: str, root: int) -> Iterator[None]:
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
