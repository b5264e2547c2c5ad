"""Holds the path of a unix socket for this process only: its directory, its lock file, and its socket file.

gRPC itself lets a second server take over a path (grpc/grpc#17122).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from container_manager.errors import AddressInUseError, StartupError
from container_manager.sockets.access import SocketAccess


class SocketPath:
    """:meth:`take`, then bind, then :meth:`bound`; all three again when :attr:`leads_here` is no longer true."""

    def __init__(self, path: Path, access: SocketAccess) -> None:
        self.path = path
        self._access = access
        self._lock = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None
        self._bound: tuple[int, int] | None = None

    def take(self) -> None:
        """Prepare the path for binding: create the directory, take the lock, remove a stale socket.

        Raises :class:`StartupError` for a live socket, or for anything that is not a socket, and does not touch it. A
        lock that this process already holds stays held.
        """
        self._access.make_directory(self.path.parent)
        if not self._has_lock:
            # The lock file may have been deleted with the socket, and made again by another process.
            descriptor = _locked(self._lock, self.path)
            self._close()
            self._descriptor = descriptor
        _remove_stale(self.path)

    def bound(self) -> None:
        """Remember the socket that was just bound, and grant access to it. Raises :class:`StartupError`."""
        self._bound = _identity(self.path)
        self._access.grant(self.path)

    @property
    def leads_here(self) -> bool:
        """Whether the path still names the socket that was bound."""
        try:
            # A bound socket keeps its inode, so no other file gets the same number.
            return self._bound is not None and self._bound == _identity(self.path)
        except OSError:
            return False

    def release(self) -> None:
        """Remove the socket and the lock file, unless another process has replaced them, and release the lock."""
        if self._descriptor is None:
            return
        if self.leads_here:
            self.path.unlink(missing_ok=True)
        if self._has_lock:
            with suppress(StartupError, OSError):
                _remove_stale(self.path)
            # While the lock is held, so that the next process makes a new lock file.
            self._lock.unlink(missing_ok=True)
        self._close()

    @property
    def _has_lock(self) -> bool:
        return self._descriptor is not None and _is_open(self._lock, self._descriptor)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _is_open(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    opened = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _locked(lock: Path, path: Path) -> int:
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StartupError(f"the lock file {lock} cannot be made: {exc.strerror}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AddressInUseError(f"{path} is in use: another server holds {lock.name} beside it") from None
        # Its last holder may have removed the file between the two calls.
        if _is_open(lock, descriptor):
            return descriptor
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartupError(f"{path} exists and is no socket; it is left alone")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as exc:
            raise StartupError(f"{path} is a socket that cannot be checked ({exc.strerror}); it is left alone") from exc
    raise AddressInUseError(f"{path} is in use: another program answers there")
