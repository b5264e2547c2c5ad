"""Writes the archive of a bot's state: a gzip tar, for any program that reads one, with its manifest as first member.

The checksums are known only after all files were read. So the files are compressed into a file of their own first, and
then appended to the compressed manifest: gzip members that follow each other are one stream (RFC 1952, 2.2).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import IO

from container_manager.backend_maintenance import Progress
from container_manager.errors import CapacityExceededError
from container_manager.maintenance.manifest import (
    DIRECTORY,
    FILE,
    LINK,
    MANIFEST_NAME,
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_PATH_BYTES,
    SECRETS_NAME,
    STATE_PREFIX,
    Entry,
    Manifest,
    encoded,
    leads_out,
)
from container_manager.provisioning.descriptors import names_in

DERIVED_PATHS = ("cache", "tmp")
"""What a program makes anew, in every bot's state."""
# Twice as fast as the default, for archives that are a tenth larger.
_LEVEL = 3
_COPY_BYTES = 1024 * 1024


def write_archive(
    state: int | None,
    manifest: Manifest,
    archive: IO[bytes],
    new_temporary: Callable[[], IO[bytes]],
    on_progress: Progress = lambda _: None,
    *,
    without: Collection[str] = (),
    secrets: bytes = b"",
) -> Manifest:
    """Write a bot's state, an open directory that nobody changes meanwhile, into ``archive``; returns its manifest.

    ``None``: the bot has no state. ``manifest``: all but the entries and what is left out in addition. ``without``:
    paths that are left out, and not named. ``secrets``: encrypted; empty: none.
    Raises :class:`CapacityExceededError` for more than an archive may hold.
    """
    with new_temporary() as files:
        writer = _Writer(files, frozenset(without), on_progress)
        if state is not None:
            writer.write(state)
        writer.close()
        complete = replace(manifest, entries=writer.entries, left_out=[*manifest.left_out, *writer.left_out])
        if secrets:
            sha256 = hashlib.sha256(secrets).hexdigest()
            complete = replace(complete, secrets_bytes=len(secrets), secrets_sha256=sha256)
        described = encoded(complete)
        if len(described) > MAX_MANIFEST_BYTES:
            # Nobody could read it.
            raise CapacityExceededError(f"the manifest has more than {MAX_MANIFEST_BYTES} bytes")
        with gzip.GzipFile("", "wb", _LEVEL, archive, 0) as compressed:
            _write_member(compressed, MANIFEST_NAME, described)
            if secrets:
                _write_member(compressed, SECRETS_NAME, secrets)
        files.seek(0)
        shutil.copyfileobj(files, archive, _COPY_BYTES)
    return complete


class _Writer:
    def __init__(self, files: IO[bytes], without: Collection[str], on_progress: Progress) -> None:
        self.entries: list[Entry] = []
        self.left_out: list[str] = []
        self._gzip = gzip.GzipFile("", "wb", _LEVEL, files, 0)
        self._tar = tarfile.TarFile(
            fileobj=self._gzip,
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
            copybufsize=_COPY_BYTES,
        )
        self._without = without
        self._on_progress = on_progress
        self._size = 0

    def close(self) -> None:
        self._tar.close()
        self._gzip.close()

    def write(self, state: int) -> None:
        for path, name, parent in _walk(state, self._without):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            # Without the bits that change the user: the archive may be unpacked anywhere.
            mode, mtime_ns = status.st_mode & 0o777, status.st_mtime_ns
            if len(os.fsencode(path)) > MAX_PATH_BYTES:
                raise CapacityExceededError(f"a path of the state has more than {MAX_PATH_BYTES} bytes")
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(name, dir_fd=parent)
                if leads_out(path, target):
                    # Restoring it would be refused: where it leads is none of the state's business.
                    self.left_out.append(path)
                    continue
                self._add(Entry(path, LINK, mode, mtime_ns, target=target))
            elif stat.S_ISDIR(status.st_mode):
                self._add(Entry(path, DIRECTORY, mode, mtime_ns))
            else:
                self._add_file(Entry(path, FILE, mode, mtime_ns, status.st_size), name, parent)

    def _add_file(self, entry: Entry, name: str, parent: int) -> None:
        if self._size + entry.size > MAX_BYTES:
            raise CapacityExceededError(
                f"the files of the state have more than {MAX_BYTES} bytes, {entry.path[:200]!a} alone {entry.size}"
            )
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            reader = _Hashing(file, self._read)
            self._tar.addfile(_tar_info(entry), reader)
        self.entries.append(replace(entry, sha256=reader.digest.hexdigest()))

    def _read(self, count: int) -> None:
        self._size += count
        self._on_progress(self._size)

    def _add(self, entry: Entry) -> None:
        self._tar.addfile(_tar_info(entry))
        self.entries.append(entry)


class _Hashing(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._on_read = on_read

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        self._on_read(len(piece))
        return piece


def _walk(directory: int, without: Collection[str], prefix: str = "") -> Iterator[tuple[str, str, int]]:
    """Every entry below a directory, in a fixed order, each directory before what is in it: path, name, parent."""
    for name in sorted(names_in(directory)):
        if f"{prefix}{name}" in without:
            continue
        yield f"{prefix}{name}", name, directory
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                yield from _walk(inner, without, f"{prefix}{name}/")
            finally:
                os.close(inner)


def _tar_info(entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(STATE_PREFIX + entry.path)
    info.type = {FILE: tarfile.REGTYPE, DIRECTORY: tarfile.DIRTYPE, LINK: tarfile.SYMTYPE}[entry.kind]
    info.size, info.mode, info.mtime, info.linkname = entry.size, entry.mode, entry.mtime_ns // 10**9, entry.target
    return info


def _write_member(tar: gzip.GzipFile, name: str, content: bytes) -> None:
    """Write a member of a tar, with its header and padding."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    for piece in (info.tobuf(tarfile.PAX_FORMAT), content, b"\0" * (-len(content) % tarfile.BLOCKSIZE)):
        tar.write(piece)
