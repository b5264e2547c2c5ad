"""A process of its own for one object whose methods are called from here: no two of them share an interpreter lock.

Used for everything that plays a client. The process that conducts the run sleeps while a child works.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from bench.process_figures import cpu_seconds

_JOIN_SECONDS = 5


class ChildError(Exception):
    """A call failed in a child; the message holds its traceback."""


class Child:
    """The parent's side; a context manager. :meth:`close` ends the process at any time."""

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any) -> None:
        """``make(*arguments)`` is called in the child; both must be picklable."""
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        # Ctrl-C reaches the whole process group; ignored signals stay ignored in a new program (execve(2)).
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the method returns. Raises :class:`ChildError`."""
        self.begin(method, *arguments)
        return self.end()

    def begin(self, method: str, *arguments: Any) -> None:
        """Have the method called; :meth:`end` waits for it."""
        self._connection.send((method, arguments))

    def end(self) -> Any:
        """What the method returns that was begun before. Raises :class:`ChildError`."""
        try:
            failure, result = self._connection.recv()
        except (EOFError, ConnectionError):
            raise ChildError(f"{self.name}: its process ended") from None
        if failure:
            raise ChildError(f"{self.name}: {failure}")
        return result

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far."""
        assert self._process.pid is not None
        return cpu_seconds(self._process.pid)

    def close(self) -> None:
        """End the process, in the middle of its work if need be."""
        self._connection.close()
        self._process.terminate()
        self._process.join(_JOIN_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    served: Any = None
    while True:
        try:
            method, given = connection.recv()
        except EOFError:
            return
        try:
            served = make(*arguments) if served is None else served
            answer = ("", getattr(served, method)(*given))
        except Exception:  # noqa: BLE001 - told to the parent, which ends the run
            answer = (traceback.format_exc(), None)
        connection.send(answer)
