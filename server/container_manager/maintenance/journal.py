"""Where each operation is, on disk: what a service that was killed has to finish, and what callers may ask again.

One file for each request id. It is written beside, fsynced and renamed, so it always has a whole record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from container_manager import errors
from container_manager.bot_directories import BotUser
from container_manager.errors import ContainerManagerError, RollbackFailedError, StateUnavailableError
from container_manager.provisioning.descriptors import (
    DIRECTORY_MODE,
    failures_as,
    names_in,
    opened_directory,
    opened_lock_file,
    write_file,
)

JOURNAL_DIRECTORY = ".operations"
BACKUP, RESTORE, UPGRADE = "backup", "restore", "upgrade"
"""The kinds of operations."""
KEPT_SECONDS = 7 * 24 * 3600
_PRUNED_SECONDS = 3600
"""How often old records are looked for, while operations are recorded."""
_SUFFIX, _PART, _LOCK, _IDENTITY = ".json", ".part", "lock", "identity"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """An operation that has changed something, or has ended."""

    request_id: str
    kind: str
    bot_id: str
    arguments: Mapping[str, Any]
    """What else the caller asked for."""
    phase: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What later phases need to know of earlier ones."""
    outcome: Mapping[str, Any] | None = None
    """``None``: it has not ended. Else its result, or its error: see :func:`error_document`."""
    time_seconds: float = 0.0
    """When the record was written."""

    def asks_the_same(self, other: Record) -> bool:
        """Whether both are of calls with the same arguments."""
        return (self.kind, self.bot_id, dict(self.arguments)) == (other.kind, other.bot_id, dict(other.arguments))


class JournalUnavailableError(StateUnavailableError):
    """Records cannot be read or written, and that not for want of room."""


class Journal:
    """The records in ``{root}/.operations``: synchronous, for worker threads. One caller at a time for each record.

    Each method raises :class:`JournalUnavailableError`, and ``CapacityExceededError`` when there is no room.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pruning = threading.Lock()
        self._pruned = time.time()
        self._held = -1
        self._identifying = threading.Lock()
        self._identity = ""

    def hold(self) -> bool:
        """Be one of the services that use the journal, until :meth:`release` or the end of the process.

        ``True``: it is the only one, and no other begins before :meth:`share`. ``False``: others may be working on what
        looks unfinished.
        """
        with self._opened() as directory:
            self._held = opened_lock_file(_LOCK, directory)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._held, fcntl.LOCK_SH)
            return False
        except OSError:
            # The file system has no locks, and so nothing tells of another service.
            pass
        return True

    def share(self) -> bool:
        """Let other services begin. ``False``: one began in between, was alone, and continues what is unfinished."""
        try:
            # This frees the lock before it takes it anew; see flock(2).
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._held, fcntl.LOCK_SH)
            return False
        except OSError:
            pass
        return True

    def release(self) -> None:
        """Let the next service that is alone continue what is unfinished."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def path(self, record: Record) -> Path:
        """The file of a record."""
        return self._root / JOURNAL_DIRECTORY / _name(record.request_id)

    def identity(self) -> str:
        """Stands for the journal in the names of what its operations make, beside what those of other journals make."""
        with self._identifying:
            if not self._identity:
                with self._opened() as directory:
                    if not (identity := _content(_IDENTITY, directory)):
                        identity = secrets.token_hex(8).encode()
                        _write(_IDENTITY, identity, directory)
                self._identity = identity.decode()
            return self._identity

    def find(self, request_id: str) -> Record | None:
        """The record of a request id."""
        with self._opened() as directory:
            return _read(_name(request_id), directory)

    def save(self, record: Record) -> None:
        """Write a record; it is on the disk when this returns."""
        document = {**asdict(record), "time_seconds": time.time()}
        with self._opened() as directory:
            _write(_name(record.request_id), json.dumps(document).encode(), directory)
            self._prune(directory)

    def forget(self, request_id: str) -> None:
        """Remove a record."""
        with self._opened() as directory, suppress(FileNotFoundError):
            os.unlink(_name(request_id), dir_fd=directory)
            os.fsync(directory)

    def unfinished(self) -> list[Record]:
        """The operations that a killed service has left. Removes what is too old."""
        records = []
        with self._opened() as directory:
            for name in (name for name in names_in(directory) if name.endswith(_SUFFIX)):
                record = _read(name, directory)
                if record is not None and record.outcome is None:
                    records.append(record)
                elif record is not None and _may_go(record):
                    os.unlink(name, dir_fd=directory)
        return records

    def _prune(self, directory: int) -> None:
        """Remove what is too old, now and then. One thread at once: what it has removed may be there anew."""
        if time.time() < self._pruned + _PRUNED_SECONDS or not self._pruning.acquire(blocking=False):
            return
        try:
            self._pruned = time.time()
            for name in (name for name in names_in(directory) if name.endswith(_SUFFIX)):
                # The record is on the disk, whatever becomes of others.
                with suppress(OSError):
                    if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime < self._pruned - KEPT_SECONDS:
                        record = _read(name, directory)
                        if record is not None and _may_go(record):
                            os.unlink(name, dir_fd=directory)
        finally:
            self._pruning.release()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with failures_as(JournalUnavailableError, f"the journal of operations in {self._root}", ""):
            root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with suppress(FileExistsError):
                    os.mkdir(JOURNAL_DIRECTORY, DIRECTORY_MODE, dir_fd=root)
                    os.fsync(root)
                with opened_directory(JOURNAL_DIRECTORY, root) as directory:
                    yield directory
            finally:
                os.close(root)


def error_document(error: ContainerManagerError) -> dict[str, Any]:
    """An error as an outcome."""
    return {"error": {"reason": error.reason, "message": str(error), "metadata": error.metadata}}


def error_of(outcome: Mapping[str, Any]) -> ContainerManagerError | None:
    """The error of an outcome; ``None``: it is a result."""
    error = outcome.get("error")
    if error is None:
        return None
    classes = (each for each in vars(errors).values() if isinstance(each, type))
    kinds = (each for each in classes if issubclass(each, ContainerManagerError))
    kind = next((each for each in kinds if each.reason == error["reason"]), ContainerManagerError)
    return kind(error["message"], **error["metadata"])


def _may_go(record: Record) -> bool:
    """Whether a record has been kept for long enough. It may have the only description of a bot without a container."""
    is_needed = record.outcome is None or isinstance(error_of(record.outcome), RollbackFailedError)
    return not is_needed and record.time_seconds < time.time() - KEPT_SECONDS


def _name(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest() + _SUFFIX


def _write(name: str, content: bytes, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name + _PART, dir_fd=directory)
    write_file(name + _PART, directory, content, BotUser(os.geteuid(), os.getegid()))
    os.rename(name + _PART, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def _content(name: str, directory: int) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read()


def _read(name: str, directory: int) -> Record | None:
    content = _content(name, directory)
    if content is None:
        return None
    try:
        return Record(**json.loads(content))
    except (ValueError, TypeError):
        # Not written by this version of the service.
        _log.warning("the record %s of an operation cannot be read; it is left as it is", name)
        return None
