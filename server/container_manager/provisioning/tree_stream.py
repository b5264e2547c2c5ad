"""A directory tree as a tar stream, as the engine's archive endpoints send and take it.

The reader trusts nothing in the stream: a bot has made what is in it, and may have changed it meanwhile. Each entry is
made by its name in a directory that the reader has made itself and opens without following links, and never in the
place of another one. As in :mod:`container_manager.provisioning.tree_copy`, sockets, pipes and devices are left out
(an engine does not even name sockets), and owner, mode and modification time are kept. Files with several names keep
them, since only the first one has the content.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Collection, Generator, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, Self

from container_manager.backend_maintenance import Copied, Progress
from container_manager.errors import StateTooLargeError, StateUnavailableError
from container_manager.provisioning.descriptors import (
    is_directory,
    names_in,
    opened_below,
    opened_directory,
    remove_all_in,
    write_sparse,
)
from container_manager.provisioning.tree_copy import MAX_DEPTH, MAX_ENTRIES, MAX_PATHS_BYTES

MAX_BYTES = 1 << 38
"""All files together, with their holes, which a stream has as zeros. No backup may have more: 256 GiB."""
_PIECE_BYTES = 1024 * 1024
_BLOCK = tarfile.NUL * tarfile.BLOCKSIZE


class ByteStream(Protocol):
    """Where the bytes of a tar stream come from."""

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes; empty at the end."""


def unpack_tree(
    stream: ByteStream, top: str, target: int, *, without: Collection[str] = (), on_progress: Progress = lambda _: None
) -> Copied:
    """Unpack the directory ``top`` of a tar stream into an open, empty directory, which gets its attributes, too.

    ``without``: paths below it that are left out. Raises :class:`StateUnavailableError` for a stream that is damaged,
    not complete or not of that directory alone, :class:`StateTooLargeError` for a tree that is too large or too
    deep, :class:`OSError`, and what ``stream`` raises.
    """
    source = _Source(stream)
    with _Unpacking(top, target, frozenset(without), on_progress) as unpacking:
        try:
            archive: Any = tarfile.TarFile(fileobj=source, mode="r", encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
            while (member := archive.next()) is not None:
                # tarfile would remember each of them.
                archive.members.clear()
                archive.pax_headers.clear()
                unpacking.add(member, source)
            # To tarfile, a stream that is cut off between two files, or a damaged header, is the end, too.
            if source.last_read != _BLOCK:
                raise tarfile.ReadError("it is not complete; a file may have changed or been damaged")
            while source.read(_PIECE_BYTES):
                pass
            return unpacking.finished()
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as exc:
            raise StateUnavailableError(f"what the engine sends of the state cannot be read: {exc}") from exc


def pack_tree(source: int, top: str) -> Generator[bytes, None, None]:
    """The tar stream of an open directory, which nobody changes meanwhile, as the directory ``top``."""
    yield _header(top, os.fstat(source), tarfile.DIRTYPE)
    yield from _packed(top, source, {})
    yield _BLOCK * 2


class _Source:
    """What tarfile reads: a stream from its begin to its end."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._position = 0
        self.last_read = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        while self._position < position and self.read(min(_PIECE_BYTES, position - self._position)):
            pass

    def read(self, count: int) -> bytes:
        """``count`` bytes; fewer at the end."""
        if count > _PIECE_BYTES:
            raise tarfile.ReadError("a file has a name or attributes that are too long")
        data = bytearray()
        while len(data) < count and (piece := self._stream.read(count - len(data))):
            data += piece
        self._position += len(data)
        self.last_read = bytes(data)
        return self.last_read


class _Attributes(NamedTuple):
    """What is set last of a directory, since a file that is made in it changes its time."""

    path: str
    member: tarfile.TarInfo


class _Unpacking:
    """Makes the entries. Paths are relative to the directory ``top``, which has the empty one."""

    def __init__(self, top: str, target: int, without: frozenset[str], on_progress: Progress) -> None:
        self._top = top
        self._target = target
        self._without = without
        self._on_progress = on_progress
        self._copied = Copied()
        self._directories: list[_Attributes] = []
        self._entries = self._announced_bytes = self._paths_bytes = 0
        # The directory that was used last, open.
        self._opened_path, self._opened = "", os.dup(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._opened)

    def add(self, member: tarfile.TarInfo, source: _Source) -> None:
        path = self._path(member.name)
        if not self._directories or not path:
            if self._directories or path or not member.isdir():
                raise tarfile.ReadError("it does not begin with the directory, or has it twice")
            self._directories.append(_Attributes(path, member))
            return
        self._count(path, member)
        directory, name = self._directory(path.rpartition("/")[0]), path.rpartition("/")[2]
        if member.isdir():
            if path.count("/") >= MAX_DEPTH:
                raise StateTooLargeError(f"directories are nested deeper than {MAX_DEPTH}: {path[:200]!a}")
            os.mkdir(name, 0o700, dir_fd=directory)
            self._directories.append(_Attributes(path, member))
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=directory)
            os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
        elif member.islnk():
            self._link(path, self._path(member.linkname), name, directory)
        elif member.isreg() and not member.issparse():
            self._write(path, member, directory, source)
        elif not self._is_left_out(path):
            self._copied.left_out.append(path)

    def finished(self) -> Copied:
        """Remove what is left out, and give the directories their attributes, deepest first."""
        if not self._directories:
            raise tarfile.ReadError("it is empty")
        for path in self._without:
            self._remove(path)
        for path, member in reversed(self._directories):
            if not self._is_left_out(path):
                _settle(self._directory(path), member)
        return self._copied

    def _count(self, path: str, member: tarfile.TarInfo) -> None:
        self._entries += 1
        self._announced_bytes += member.size
        self._paths_bytes += len(os.fsencode(path)) + (len(os.fsencode(member.linkname)) if member.issym() else 0)
        if self._entries > MAX_ENTRIES:
            raise StateTooLargeError(f"there are more than {MAX_ENTRIES} files")
        if self._paths_bytes > MAX_PATHS_BYTES:
            raise StateTooLargeError(f"the paths of all files together have more than {MAX_PATHS_BYTES} bytes")
        if self._announced_bytes > MAX_BYTES:
            raise StateTooLargeError(f"the files have more than {MAX_BYTES} bytes")
        if not self._is_left_out(path):
            self._copied.entries += 1

    def _path(self, name: str) -> str:
        top, slash, path = name.partition("/")
        if top != self._top or (slash and any(part in ("", ".", "..") for part in path.split("/"))):
            raise tarfile.ReadError(f"it has the name {name[:200]!a}")
        return path

    def _is_left_out(self, path: str) -> bool:
        return any(path == each or path.startswith(f"{each}/") for each in self._without)

    def _link(self, path: str, first: str, name: str, directory: int) -> None:
        """Give a file a further name. It is never the target of a symbolic link."""
        parent, _, first_name = first.rpartition("/")
        if first in self._copied.left_out:
            self._copied.left_out.append(path)
            return
        with opened_below(self._target, parent) as source:
            os.link(first_name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def _write(self, path: str, member: tarfile.TarInfo, directory: int, source: _Source) -> None:
        name, is_left_out = path.rpartition("/")[2], self._is_left_out(path)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            left = member.size
            while left:
                piece = source.read(min(_PIECE_BYTES, left))
                if not piece:
                    raise tarfile.ReadError("it ends within a file, which may have changed or been damaged")
                left -= len(piece)
                write_sparse(descriptor, piece)
                if not is_left_out:
                    self._copied.size_bytes += len(piece)
                self._on_progress(self._copied.size_bytes)
            file.truncate(member.size)
            _settle(descriptor, member)

    def _directory(self, path: str) -> int:
        """A directory that was made before, open until the next call."""
        if path != self._opened_path:
            with opened_below(self._target, path) as directory:
                os.close(self._opened)
                self._opened = os.dup(directory)
            self._opened_path = path
        return self._opened

    def _remove(self, path: str) -> None:
        # Only now: what has another name elsewhere has its content from here.
        parent, _, name = path.rpartition("/")
        with suppress(FileNotFoundError, NotADirectoryError), opened_below(self._target, parent) as directory:
            if is_directory(name, directory):
                with opened_directory(name, directory) as inner:
                    remove_all_in(inner)
                os.rmdir(name, dir_fd=directory)
            else:
                os.unlink(name, dir_fd=directory)


def _settle(descriptor: int, member: tarfile.TarInfo) -> None:
    os.fchown(descriptor, member.uid, member.gid)
    # Without the bits that change the user, as in a copy.
    os.fchmod(descriptor, member.mode & 0o1777)
    time_ns = int(member.mtime * 1_000_000_000)
    os.utime(descriptor, ns=(time_ns, time_ns))


def _packed(prefix: str, directory: int, names: dict[int, str]) -> Iterator[bytes]:
    """``names``: the first ones of files with several, by their inodes."""
    for name in sorted(names_in(directory)):
        path = f"{prefix}/{name}"
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            yield _header(path, found, tarfile.DIRTYPE)
            with opened_directory(name, directory) as inner:
                yield from _packed(path, inner, names)
        elif stat.S_ISLNK(found.st_mode):
            yield _header(path, found, tarfile.SYMTYPE, link=os.readlink(name, dir_fd=directory))
        elif found.st_nlink > 1 and (first := names.setdefault(found.st_ino, path)) != path:
            yield _header(path, found, tarfile.LNKTYPE, link=first)
        else:
            yield _header(path, found, tarfile.REGTYPE)
            yield from _content(name, directory, found.st_size)


def _content(name: str, directory: int, size: int) -> Iterator[bytes]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        left = size
        while left and (piece := file.read(min(_PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
    if padding := -size % tarfile.BLOCKSIZE:
        yield bytes(padding)


def _header(path: str, found: os.stat_result, kind: bytes, *, link: str = "") -> bytes:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, link
    member.mode, member.uid, member.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    member.size = found.st_size if kind == tarfile.REGTYPE else 0
    seconds, fraction = divmod(abs(found.st_mtime_ns), 1_000_000_000)
    member.pax_headers = {"mtime": f"{'-' if found.st_mtime_ns < 0 else ''}{seconds}.{fraction:09d}"}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
