"""How long an operation may take, and whether anyone still wants its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from container_manager.errors import EngineTimeoutError, OperationCancelledError


class Deadline:
    """The end of one operation, shared between the caller's side and the worker that carries it out.

    Operations that can be undone ask :meth:`check` between their steps and :meth:`commit` as the last one, and undo
    what they did when it raises. Operations that must run to their end once begun (stop, remove) do not ask.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._committed = False
        self._callbacks: list[Callable[[], None]] = []

    def remaining(self) -> float | None:
        """Seconds left, never below 0; ``None`` without an end."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def at_most(self, seconds: float) -> float:
        """The smaller of ``seconds`` and what remains; never 0, which the SDK's sockets take as non-blocking."""
        remaining = self.remaining()
        return seconds if remaining is None else max(0.001, min(seconds, remaining))

    def cancel(self) -> bool:
        """Tell the worker that nobody waits any more; from any thread. False: it has committed, its result stands."""
        with self._lock:
            if self._committed:
                return False
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once at :meth:`cancel`, or at once if that has been."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def check(self) -> None:
        """Raise :class:`OperationCancelledError` or :class:`EngineTimeoutError` when it is no use going on."""
        if self._cancelled:
            raise OperationCancelledError("the caller cancelled the call")
        if self.remaining() == 0:
            raise EngineTimeoutError("the call's deadline passed before the engine was done")

    def commit(self) -> None:
        """As :meth:`check`, for the last time: if it does not raise, no later :meth:`cancel` counts."""
        with self._lock:
            self.check()
            self._committed = True
