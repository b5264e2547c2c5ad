"""The audit log: one line of JSON for each call that may change something, in a file of its own or in the journal."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from container_manager.errors import StartupError

JOURNAL = "journal"
_JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
_IDENTIFIER = "container-manager-audit"
_MODE = 0o600
_MOST_MICROSECONDS = 100_000

_log = structlog.get_logger(__name__)


class AuditLog:
    """Appends lines to a file, which may be renamed at any time, or sends them to the journal."""

    def __init__(self, target: str, journal: Path = _JOURNAL_SOCKET) -> None:
        """``target``: the path of the file, or :data:`JOURNAL`. Raises :class:`StartupError` if it cannot be used."""
        self.target = target
        self._journal = journal
        self._descriptor = -1
        self._lost = 0
        self._torn = False
        try:
            self._open()
        except OSError as exc:
            raise StartupError(f"--audit-log: {target} cannot be written: {exc.strerror}") from exc

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append a line. Never raises: a line that cannot be written is counted, and the log says so."""
        line = json.dumps(entry).encode("ascii")
        try:
            if self.target == JOURNAL:
                message = b"SYSLOG_IDENTIFIER=%s\nPRIORITY=6\nMESSAGE=%s\n" % (_IDENTIFIER.encode(), line)
                os.write(self._descriptor, message)
            else:
                self._reopen_if_renamed()
                self._append(line + b"\n")
        except OSError as exc:
            self._lost += 1
            if self._lost == 1:
                _log.error("lines of the audit log are lost", target=self.target, problem=exc.strerror)
            self._close()
            with suppress(OSError):
                self._open()
            return
        if self._lost:
            _log.warning("the audit log is written again", target=self.target, lost=self._lost)
            self._lost = 0
            if self.target == JOURNAL:
                os.set_blocking(self._descriptor, True)

    def close(self) -> None:
        """Close the file or the connection."""
        self._close()

    def _append(self, line: bytes) -> None:
        # In one write, so that no other process's line comes between.
        line = b"\n" * self._torn + line
        written = os.write(self._descriptor, line)
        if written == len(line):
            self._torn = False
            return
        self._torn = not self._taken_back(written)
        raise OSError(errno.ENOSPC, "there is no space for a whole line")

    def _taken_back(self, written: int) -> bool:
        """Remove the beginning of a line from the file's end, unless something has come behind it."""
        try:
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if os.fstat(self._descriptor).st_size != end:
                return False
            os.ftruncate(self._descriptor, end - written)
        except OSError:
            # A pipe has no such end.
            return False
        return True

    def _open(self) -> None:
        if self.target == JOURNAL:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connected:
                # A journal that hangs must not hang the service: a line that it does not take in time is lost, and no
                # other one waits until it takes one again.
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, _MOST_MICROSECONDS))
                connected.connect(str(self._journal))
                connected.setblocking(not self._lost)
                self._descriptor = connected.detach()
        else:
            # Neither a pipe that nobody reads nor one that is full holds up a change. A file is not affected.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(self.target, flags, _MODE)

    def _reopen_if_renamed(self) -> None:
        """As log rotation needs it."""
        try:
            there = Path(self.target).stat()
        except FileNotFoundError:
            there = None
        if self._descriptor < 0 or there is None or not os.path.samestat(there, os.fstat(self._descriptor)):
            self._close()
            self._open()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
