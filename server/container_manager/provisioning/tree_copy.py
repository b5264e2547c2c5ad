"""Copies a directory tree that its owner may change meanwhile.

Every entry is opened by descriptor, without following links. Regular files, directories and symbolic links are copied,
with owner, mode and modification time; holes stay holes. Each name of a file with several names becomes a file of its
own. Sockets, pipes and devices are left out and named.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress

from container_manager.backend_maintenance import Copied, Progress
from container_manager.errors import StateTooLargeError

MAX_ENTRIES = 500_000
MAX_PATHS_BYTES = 64 * 1024 * 1024
"""All paths and targets of links together: they are kept in memory, and in the manifest of a backup."""
MAX_DEPTH = 64
"""Nested directories. Each costs two descriptors while it is copied."""
_FICLONE = 0x40049409  # linux/fs.h
_CHUNK_BYTES = 1024 * 1024
_VANISHED = (FileNotFoundError, NotADirectoryError)


def copy_tree(
    source: int, target: int, *, without: Collection[str] = (), on_progress: Progress = lambda _: None
) -> Copied:
    """Copy what is in one open directory into another, empty one; with the attributes of the directory itself.

    ``without``: paths relative to the source that are left out. Raises :class:`StateTooLargeError` for a tree that
    has too many files, too long paths or too deep directories, and :class:`OSError`. The copy is on the disk after
    :func:`sync_file_system`.
    """
    copy = _TreeCopy(frozenset(without), on_progress)
    copy.directory("", source, target)
    return copy.copied


def sync_file_system(descriptor: int) -> None:
    """Put everything that was written to a descriptor's file system on the disk: one call for any number of files."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _TreeCopy:
    def __init__(self, without: frozenset[str], on_progress: Progress) -> None:
        self.copied = Copied()
        self._without = without
        self._on_progress = on_progress
        self._paths_bytes = 0

    def directory(self, prefix: str, source: int, target: int) -> None:
        """``prefix``: the directory's path with a slash, empty for the whole tree."""
        if prefix.count("/") > MAX_DEPTH:
            raise StateTooLargeError(f"directories are nested deeper than {MAX_DEPTH}: {prefix[:200]!a}")
        for name in sorted(self._names(prefix, source)):
            with suppress(*_VANISHED):
                self._entry(f"{prefix}{name}", name, source, target)
        _copy_attributes(os.fstat(source), target)

    def _names(self, prefix: str, source: int) -> Iterator[str]:
        """Names of a directory's entries, counted as they are read: a bot may have made any number of them."""
        with os.scandir(source) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if path not in self._without:
                    self.copied.entries += 1
                    if self.copied.entries > MAX_ENTRIES:
                        raise StateTooLargeError(f"there are more than {MAX_ENTRIES} files")
                    self._add_path(path)
                    yield entry.name

    def _add_path(self, path: str) -> None:
        self._paths_bytes += len(os.fsencode(path))
        if self._paths_bytes > MAX_PATHS_BYTES:
            raise StateTooLargeError(f"the paths of all files together have more than {MAX_PATHS_BYTES} bytes")

    def _entry(self, path: str, name: str, source: int, target: int) -> None:
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            with ExitStack() as stack:
                inner = _opened(name, source, os.O_DIRECTORY, stack)
                os.mkdir(name, 0o700, dir_fd=target)
                self.directory(f"{path}/", inner, _opened(name, target, os.O_DIRECTORY, stack))
        elif stat.S_ISLNK(found.st_mode):
            link = os.readlink(name, dir_fd=source)
            self._add_path(link)
            os.symlink(link, name, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(found.st_mode):
            self._file(name, source, target)
        else:
            self.copied.left_out.append(path)

    def _file(self, name: str, source: int, target: int) -> None:
        with ExitStack() as stack:
            # Without blocking on a pipe that has taken its place.
            file = _opened(name, source, os.O_NONBLOCK, stack)
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return
            copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
            stack.callback(os.close, copy)
            for count in _copy_content(file, copy, status.st_size):
                self.copied.size_bytes += count
                self._on_progress(self.copied.size_bytes)
            _copy_attributes(status, copy)


def _opened(name: str, parent: int, flags: int, stack: ExitStack) -> int:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    stack.callback(os.close, descriptor)
    return descriptor


def _copy_content(source: int, target: int, size: int) -> Iterator[int]:
    """Copy at most ``size`` bytes; yields how many at a time. Where the file system can, both share their blocks."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        yield from _copy_data(source, target, size)
    else:
        yield size
    # The file may have grown since its size was read, and may end with a hole.
    os.ftruncate(target, size)


def _copy_data(source: int, target: int, size: int) -> Iterator[int]:
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = min(os.lseek(source, begin, os.SEEK_HOLE), size)
        offset = begin
        while offset < end:
            piece = os.pread(source, min(_CHUNK_BYTES, end - offset), offset)
            if not piece:  # cut short meanwhile
                return
            written = os.pwrite(target, piece, offset)
            offset += written
            yield written


def _copy_attributes(status: os.stat_result, target: int) -> None:
    os.fchown(target, status.st_uid, status.st_gid)
    # Without the bits that change the user: they have no effect in a bot, and systemd's RestrictSUIDSGID refuses them.
    os.fchmod(target, status.st_mode & 0o1777)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
