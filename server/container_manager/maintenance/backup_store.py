"""The archives in the backup root: ``{backup_id}.tar.gz``, each with ``{backup_id}.sha256``, for sha256sum.

A file gets its name when it is complete and on the disk. An archive that an operator has copied here from another
machine is as good as one that was made here, with or without its checksum.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from container_manager.backend_maintenance import Progress
from container_manager.bot_directories import BotUser
from container_manager.errors import (
    BackupCorruptError,
    BackupNotFoundError,
    BackupUnavailableError,
)
from container_manager.maintenance.archive import write_archive
from container_manager.maintenance.manifest import Manifest
from container_manager.maintenance.new_files import flush, new_file, remove_parts, temporary, unlink
from container_manager.maintenance.unpacking import read_head, read_manifest, unpack
from container_manager.provisioning.descriptors import failures_as, fsync_directory
from container_manager.root_ownership import fault_of_root

ARCHIVE, CHECKSUM = ".tar.gz", ".sha256"
MAX_BACKUP_ID_CHARACTERS = 128
_BACKUP_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_BACKUP_ID_CHARACTERS - 1}}}")
_PIECE_BYTES = 1024 * 1024


_Key = tuple[str, int, int, int]


@dataclass(frozen=True)
class Backup:
    """An archive in the root."""

    backup_id: str
    size_bytes: int
    sha256: str
    """Empty in a list if no file beside the archive has it: to read a large archive takes long."""
    manifest: Manifest
    """Without its entries where it comes from a list."""


def new_backup_id(bot_id: str, now_seconds: float | None = None) -> str:
    """An id that tells its bot and its time, and that no other archive has."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() if now_seconds is None else now_seconds))
    return f"{bot_id}-{moment}-{secrets.token_hex(4)}"


class BackupStore:
    """The archives below one root: synchronous, for worker threads. No method follows a link.

    Each raises :class:`BackupUnavailableError` when the root cannot be used, and ``CapacityExceededError`` when there
    is no room.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # What is expensive to read of an archive, by what changes when another file takes its name.
        self._known: dict[_Key, Backup] = {}

    def write(
        self,
        backup_id: str,
        state: int | None,
        manifest: Manifest,
        on_progress: Progress = lambda _: None,
        *,
        without: Collection[str] = (),
        secrets: bytes = b"",
    ) -> Backup:
        """Write the archive of a state: see :func:`~container_manager.maintenance.archive.write_archive`."""
        with (
            self._opened() as root,
            new_file(backup_id + CHECKSUM, root) as checksum,
            new_file(backup_id + ARCHIVE, root) as archive,
        ):
            complete = write_archive(
                state, manifest, archive, lambda: temporary(root), on_progress, without=without, secrets=secrets
            )
            archive.seek(0)
            sha256 = _sha256(archive)
            checksum.write(f"{sha256}  {backup_id}{ARCHIVE}\n".encode())
            # Before the archive has its name: it must not be left without one where there is no room.
            flush(checksum)
            size = os.fstat(archive.fileno()).st_size
        return Backup(backup_id, size, sha256, complete)

    def list(self, bot_id: str = "") -> list[Backup]:
        """The archives of a bot, or all, newest first. One whose description cannot be read is left out."""
        found: dict[_Key, Backup] = {}
        with self._opened() as root:
            for backup_id in _ids(root):
                with suppress(BackupNotFoundError, BackupCorruptError):
                    key, backup = self._described(backup_id, root)
                    found[key] = backup
        # Others are gone. A list at the same time may have to read an archive again, no more.
        self._known = found
        wanted = [each for each in found.values() if not bot_id or each.manifest.bot_id == bot_id]
        return sorted(wanted, key=lambda each: (-each.manifest.create_time_ns, each.backup_id))

    def manifest(self, backup_id: str) -> Manifest:
        """Raises :class:`BackupNotFoundError` and :class:`BackupCorruptError`, as do the following."""
        with self._opened() as root, _archive(backup_id, root) as archive:
            return read_manifest(archive)

    def unpack(
        self, backup_id: str, directory: int, owner: BotUser, on_progress: Progress = lambda _: None
    ) -> Manifest:
        """Verify an archive as a whole while it is unpacked into an empty directory, which nobody else enters."""
        with self._opened() as root, _archive(backup_id, root) as archive:
            expected = _recorded(backup_id, root)
            if expected and expected != _sha256(archive):
                raise BackupCorruptError(
                    "the archive is not the one that its checksum was made of", backup_id=backup_id
                )
            archive.seek(0)
            return unpack(archive, directory, owner, on_progress)

    def delete(self, backup_id: str) -> None:
        """Remove an archive; one that is not there is gone."""
        if not _BACKUP_ID.fullmatch(backup_id):
            return
        with self._opened() as root:
            for name in (backup_id + CHECKSUM, backup_id + ARCHIVE):
                unlink(name, root)
            fsync_directory(root)

    def remove_leftovers(self) -> None:
        """Remove what killed processes have left, on a file system where new files have names."""
        with suppress(BackupUnavailableError), self._opened() as root:
            remove_parts(root)

    def _described(self, backup_id: str, root: int) -> tuple[_Key, Backup]:
        with _archive(backup_id, root) as archive:
            found = os.fstat(archive.fileno())
            key = (backup_id, found.st_ino, found.st_size, found.st_mtime_ns)
            known = self._known.get(key)
            if known is None:
                manifest = replace(read_head(archive), left_out=())
                known = Backup(backup_id, found.st_size, "", manifest)
            if not known.sha256:
                known = replace(known, sha256=_recorded(backup_id, root))
        return key, known

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with failures_as(BackupUnavailableError, f"the backup root {self._root}", ""):
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if fault := fault_of_root(os.fstat(descriptor)):
                    raise BackupUnavailableError(f"the backup root {self._root} {fault}")
                yield descriptor
            finally:
                os.close(descriptor)


@contextmanager
def _archive(backup_id: str, root: int) -> Iterator[IO[bytes]]:
    missing = BackupNotFoundError(f"there is no backup {backup_id[:200]!a}", backup_id=backup_id[:200])
    if not _BACKUP_ID.fullmatch(backup_id):
        raise missing
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(backup_id + ARCHIVE, flags, dir_fd=root)
    except FileNotFoundError:
        raise missing from None
    except OSError as exc:
        if exc.errno != errno.ELOOP:
            raise
        raise BackupCorruptError(f"the backup {backup_id} is a symbolic link", backup_id=backup_id) from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BackupCorruptError(f"the backup {backup_id} is not a file", backup_id=backup_id)
        yield file


def _ids(root: int) -> list[str]:
    with os.scandir(root) as entries:
        return [
            entry.name.removesuffix(ARCHIVE)
            for entry in entries
            if entry.name.endswith(ARCHIVE) and entry.is_file(follow_symlinks=False)
        ]


def _recorded(backup_id: str, root: int) -> str:
    """The checksum in the file beside an archive; empty: there is none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        descriptor = os.open(backup_id + CHECKSUM, flags, dir_fd=root)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            return file.read(64).decode("ascii", "replace")
    return ""


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
