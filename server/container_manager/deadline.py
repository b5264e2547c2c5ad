"""The end of an operation, and whether its caller still waits for the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from container_manager.errors import EngineTimeoutError, OperationCancelledError


class Deadline:
    """The end of one operation, shared by its caller and the worker that carries it out. Safe to use in any thread.

    An operation that can be undone calls :meth:`check` between its steps and :meth:`commit` as its last step, and
    undoes what it did when either raises. One that must run to its end once started (stop, remove) calls neither.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._committed = False
        self._callbacks: dict[object, Callable[[], object]] = {}

    def remaining(self) -> float | None:
        """Seconds left, never below 0; ``None`` without an end."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def at_most(self, seconds: float) -> float:
        """The smaller of ``seconds`` and what remains; never 0, which a socket takes as non-blocking."""
        remaining = self.remaining()
        return seconds if remaining is None else max(0.001, min(seconds, remaining))

    def cancel(self) -> bool:
        """Cancel the operation: its caller no longer waits. ``False``: it has committed, and its result stands."""
        with self._lock:
            if self._committed:
                return False
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            callback()
        return True

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback`` once on :meth:`cancel`, or immediately if the operation is cancelled already.

        Returns the function that takes it back.
        """
        key = object()

        def take_back() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        with self._lock:
            if not self._cancelled:
                self._callbacks[key] = callback
                return take_back
        callback()
        return take_back

    def check(self) -> None:
        """Raise :class:`OperationCancelledError` when cancelled, :class:`EngineTimeoutError` when the time is up."""
        if self._cancelled:
            raise OperationCancelledError("the caller cancelled the call")
        if self.remaining() == 0:
            raise EngineTimeoutError("the call's deadline passed before the engine was done")

    def commit(self) -> None:
        """Like :meth:`check`, as the last step: unless this raises, a later :meth:`cancel` has no effect."""
        with self._lock:
            self.check()
            self._committed = True
