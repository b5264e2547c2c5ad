"""Writes the audit log in a thread of its own: a disk or a journal that hangs holds up no call and no watchdog."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog

from container_manager.observability.audit_log import AuditLog

# A few megabytes.
_MOST_WAITING = 10_000

_log = structlog.get_logger(__name__)


class AuditWriter:
    """The lines that wait for an audit log, for one event loop; :meth:`close` may be called in another thread."""

    def __init__(self, log: AuditLog) -> None:
        """``log`` is used by the thread from :meth:`start` on."""
        self._log = log
        self._entries: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._failed = 0
        """Lines that an unexpected error has lost."""
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append a line soon. Neither blocks nor raises: lines for which there is no room are counted and told."""
        try:
            self._entries.put_nowait(entry)
        except queue.Full:
            self._lost += 1
            if self._lost == 1:
                _log.error("lines of the audit log are lost", target=self._log.target, problem="it takes them too late")
            return
        if self._lost and self._entries.qsize() <= _MOST_WAITING // 2:
            self._tell_lost()

    def close(self, seconds: float) -> None:
        """Write what waits, for at most ``seconds``, and close the log."""
        end = time.monotonic() + seconds
        if self._thread.ident is not None:
            with suppress(queue.Full):
                self._entries.put(None, timeout=seconds)
            self._thread.join(max(0.0, end - time.monotonic()))
        problem = "unexpected errors" if self._failed else "it took them too late"
        lost = self._lost + self._failed
        if self._thread.is_alive():
            # It ends with the process.
            problem, lost = "it did not take them before the end", lost + self._entries.qsize()
        else:
            self._log.close()
        if lost:
            _log.error("lines of the audit log are lost", target=self._log.target, problem=problem, lost=lost)

    def _tell_lost(self) -> None:
        _log.warning("the audit log is written again", target=self._log.target, lost=self._lost)
        self._lost = 0

    def _run(self) -> None:
        while (entry := self._entries.get()) is not None:
            try:
                self._log.write(entry)
            except Exception:  # noqa: BLE001 - such as of the service's own log
                self._failed += 1
                with suppress(Exception):
                    _log.exception("unexpected error: a line of the audit log is lost", target=self._log.target)
