"""Verifies an archive, and unpacks it into an empty directory that nobody else enters.

What the manifest says is checked before anything is written. Then each member must be the next entry of the manifest,
with that content. So nothing outside the directory is written, and no more than the manifest announces.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from container_manager.backend_maintenance import Progress
from container_manager.bot_directories import BotUser
from container_manager.errors import BackupCorruptError
from container_manager.maintenance.manifest import (
    DIRECTORY,
    ENTRIES,
    FILE,
    LINK,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    SECRETS_NAME,
    STATE_PREFIX,
    Entry,
    Manifest,
    decoded,
)
from container_manager.provisioning.descriptors import opened_below, write_sparse

_PIECE_BYTES = 1024 * 1024
_HEAD_BYTES = 64 * 1024
_HEADERS_BYTES = 256 * 1024
"""What is read for the headers of one member: those of the longest path and link need a tenth of it."""


def read_manifest(archive: IO[bytes]) -> Manifest:
    """The manifest of an archive, which is read no further. Raises :class:`BackupCorruptError`."""
    with _opened(archive) as members:
        return _manifest(members)


def read_head(archive: IO[bytes]) -> Manifest:
    """The manifest without its entries, which are not read. Raises :class:`BackupCorruptError`."""
    entries, content = ENTRIES.encode(), bytearray()
    with _opened(archive) as members:
        _, file = _manifest_file(members)
        while piece := file.read(_HEAD_BYTES):
            content += piece
            if (end := content.find(entries, -len(piece) - len(entries))) >= 0:
                return decoded(bytes(content[:end]) + entries + b"]}")
    raise BackupCorruptError("the archive's manifest cannot be read")


def unpack(archive: IO[bytes], directory: int, user: BotUser, on_progress: Progress = lambda _: None) -> Manifest:
    """Unpack the state of an archive into an open, empty directory; everything belongs to ``user`` then.

    Raises :class:`BackupCorruptError` for an archive that is not what its manifest says; the directory then has a part
    of the state.
    """
    with _opened(archive) as members:
        manifest = _manifest(members)
        if manifest.secrets_sha256:
            _verify_secrets(members, manifest)
        unpacker = _Unpacker(directory, user, on_progress)
        for entry in manifest.entries:
            member = members.next()
            if member is None or not _is(member, entry):
                raise BackupCorruptError(f"the archive does not have {entry.path[:200]!a} as its manifest says")
            unpacker.add(entry, members.content(member))
        if members.next() is not None:
            raise BackupCorruptError("the archive has more files than its manifest")
        unpacker.finish(manifest)
        members.read_to_end()
    return manifest


class _Members:
    """The members of an archive, one after another; one with larger headers than a state needs is refused."""

    def __init__(self, decompressed: gzip.GzipFile) -> None:
        self._file = decompressed
        # tarfile reads the headers of the first member at once.
        self._headers_left: float = _HEADERS_BYTES
        this: Any = self
        self._tar: Any = tarfile.open(fileobj=this, mode="r|", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115

    def read(self, count: int) -> bytes:
        """For tarfile, which would hold headers of any size."""
        self._headers_left -= count
        if self._headers_left < 0:
            raise BackupCorruptError(f"the archive has a member with more than {_HEADERS_BYTES} bytes of headers")
        return self._file.read(count)

    def next(self) -> tarfile.TarInfo | None:
        """The next member; ``None``: there is none."""
        # tarfile would remember every member, and all that was said of the following ones.
        self._tar.members.clear()
        self._tar.pax_headers.clear()
        self._headers_left = _HEADERS_BYTES
        try:
            member: tarfile.TarInfo | None = self._tar.next()
        finally:
            self._headers_left = math.inf
        return member

    def content(self, member: tarfile.TarInfo) -> IO[bytes] | None:
        """The content of the member that was returned last; ``None``: it has none."""
        content: IO[bytes] | None = self._tar.extractfile(member) if member.isreg() else None
        return content

    def read_to_end(self) -> None:
        """Read what follows the last member, for the checksum of the compressed data."""
        while self._file.read(_PIECE_BYTES):
            pass


@contextmanager
def _opened(archive: IO[bytes]) -> Iterator[_Members]:
    try:
        with gzip.GzipFile(fileobj=archive, mode="rb") as decompressed:
            yield _Members(decompressed)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError, RecursionError) as exc:
        raise BackupCorruptError("the archive is damaged") from exc


def _manifest(members: _Members) -> Manifest:
    size, file = _manifest_file(members)
    content = file.read()
    if len(content) != size:
        raise BackupCorruptError("the archive is damaged")
    return decoded(content)


def _manifest_file(members: _Members) -> tuple[int, IO[bytes]]:
    """How many bytes the manifest has, and what reads it."""
    first = members.next()
    if first is None or first.name != MANIFEST_NAME or not first.isreg() or first.size > MAX_MANIFEST_BYTES:
        raise BackupCorruptError("the archive does not begin with a manifest")
    return first.size, members.content(first) or io.BytesIO()


def _verify_secrets(members: _Members, manifest: Manifest) -> None:
    """Read the encrypted secrets: nobody here can decrypt them."""
    member = members.next()
    file = None if member is None or member.name != SECRETS_NAME else members.content(member)
    content = b"" if file is None else file.read(manifest.secrets_bytes + 1)
    if hashlib.sha256(content).hexdigest() != manifest.secrets_sha256:
        raise BackupCorruptError("the archive does not have the secrets that its manifest describes")


def _is(member: tarfile.TarInfo, entry: Entry) -> bool:
    if member.name != STATE_PREFIX + entry.path:
        return False
    if entry.kind == FILE:
        return member.type in tarfile.REGULAR_TYPES and not member.issparse() and member.size == entry.size
    if entry.kind == LINK:
        return member.issym() and member.linkname == entry.target
    return member.isdir()


class _Unpacker:
    """Writes the entries. Every parent is a directory that it has made, and is opened without following links."""

    def __init__(self, directory: int, user: BotUser, on_progress: Progress) -> None:
        self._root = directory
        self._user = user
        self._on_progress = on_progress
        self._size = 0

    def add(self, entry: Entry, content: IO[bytes] | None) -> None:
        name = entry.path.rpartition("/")[2]
        with opened_below(self._root, entry.path.rpartition("/")[0]) as parent:
            if entry.kind == DIRECTORY:
                os.mkdir(name, 0o700, dir_fd=parent)
            elif entry.kind == LINK:
                os.symlink(entry.target, name, dir_fd=parent)
                self._give(name, parent)
            else:
                self._write(entry, name, parent, content)

    def finish(self, manifest: Manifest) -> None:
        """Give the directories their owner, mode and time, deepest first: a file in one changes its time."""
        for entry in reversed(manifest.entries):
            if entry.kind == DIRECTORY:
                with opened_below(self._root, entry.path) as directory:
                    self._settle(directory, entry)

    def _write(self, entry: Entry, name: str, parent: int, content: IO[bytes] | None) -> None:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        digest = hashlib.sha256()
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            while content is not None and (piece := content.read(_PIECE_BYTES)):
                digest.update(piece)
                self._size += len(piece)
                self._on_progress(self._size)
                write_sparse(descriptor, piece)
            if digest.hexdigest() != entry.sha256:
                raise BackupCorruptError(f"the content of {entry.path[:200]!a} is not what the manifest says")
            file.truncate(entry.size)
            self._settle(descriptor, entry)

    def _settle(self, descriptor: int, entry: Entry) -> None:
        with _own_user_suffices():
            os.fchown(descriptor, *self._user)
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))

    def _give(self, name: str, parent: int) -> None:
        with _own_user_suffices():
            os.chown(name, *self._user, dir_fd=parent, follow_symlinks=False)


@contextmanager
def _own_user_suffices() -> Iterator[None]:
    """A user without CAP_CHOWN, such as a developer, keeps the files."""
    if os.geteuid() == 0:
        yield
    else:
        with suppress(PermissionError):
            yield
