"""Keeps the changes of a running service and ``container-manager adopt`` apart, bot by bot, across processes.

A service shares a bot's lock with other services during each change of the bot. ``adopt`` has it alone while it looks
at the bot's containers and renames one. The locks are records of one file in the secrets root, which both are given:
one byte for each bot (fcntl(2), open file description locks). The kernel releases them when their process ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import struct
from pathlib import Path

LOCK_FILE = ".bots.lock"

_MODE = 0o600
_WOULD_BLOCK = (errno.EACCES, errno.EAGAIN)

_log = logging.getLogger(__name__)


class BotLocks:
    """The locks of one secrets root; usable from one thread at a time, and for one lock of a bot at once."""

    def __init__(self, root: Path) -> None:
        """Raises :class:`OSError` if the file cannot be made, opened or locked."""
        self._root = root
        self.path = root / LOCK_FILE
        self._held: dict[str, int] = {}
        self._file = self._opened()
        try:
            # Some file systems have no locks.
            self.share("")
            self.release("")
        except BaseException:
            self.close()
            raise

    def _opened(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        if os.geteuid() == 0:
            # A service of the root's owner has to open what the superuser has made.
            os.fchown(file, self._root.stat().st_uid, -1)
        return file

    def share(self, bot_id: str) -> bool:
        """Take the bot's lock for a change, beside other services. ``False``: the bot is being adopted."""
        return self._lock(bot_id, fcntl.F_RDLCK)

    def take(self, bot_id: str) -> bool:
        """Take the bot's lock alone. ``False``: a service is changing the bot, or the bot is being adopted."""
        return self._lock(bot_id, fcntl.F_WRLCK)

    def release(self, bot_id: str) -> None:
        """Release the bot's lock."""
        self._held.pop(bot_id, None)
        _lock(self._file, bot_id, fcntl.F_UNLCK)

    def close(self) -> None:
        """Release all locks; without effect if that has been done."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lock(self, bot_id: str, kind: int) -> bool:
        self._reopen_if_deleted()
        is_taken = _lock(self._file, bot_id, kind)
        if is_taken:
            self._held[bot_id] = kind
        return is_taken

    def _reopen_if_deleted(self) -> None:
        """Use the file that other processes open by now, if somebody has deleted this one."""
        try:
            if os.path.samestat(os.fstat(self._file), os.lstat(self.path)):
                return
        except FileNotFoundError:
            pass
        try:
            file = self._opened()
        except OSError as exc:
            _log.warning("adopt no bot beside this service, whose lock file was deleted: %s", exc)
            return
        _log.warning("%s was deleted; it is made anew", self.path)
        deleted, self._file = self._file, file
        for bot_id, kind in self._held.items():
            # Without effect if somebody has taken the bot's lock since the deletion: nothing could be done about that.
            _lock(self._file, bot_id, kind)
        os.close(deleted)


def shared_locks(root: Path) -> BotLocks | None:
    """The locks for a service; ``None``, and a warning in the log, where there can be none."""
    try:
        return BotLocks(root)
    except OSError as exc:
        _log.warning("there is no lock file, so stop this service before you adopt bots: %s", exc)
        return None


def _lock(file: int, bot_id: str, kind: int) -> bool:
    # struct flock: type, whence, start, length, and a process that has to be 0.
    record = struct.pack("@hhqqi4x", kind, os.SEEK_SET, _place(bot_id), 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, record)
    except OSError as exc:
        if exc.errno in _WOULD_BLOCK:
            return False
        raise
    return True


def _place(bot_id: str) -> int:
    """The bot's byte, which need not exist. It is one of 2^62, so that no two bots have the same one."""
    return int.from_bytes(hashlib.blake2b(bot_id.encode(), digest_size=8).digest()) >> 2
