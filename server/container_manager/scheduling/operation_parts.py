"""Carries out an operation on an event loop: its parts that may block in worker threads, its waits without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Generic, TypeVar

from container_manager.deadline import Deadline
from container_manager.operation import Operation, Wait

T = TypeVar("T")


class Parts(Generic[T]):
    """An operation as the parts between its waits."""

    result: T

    def __init__(self, begin: Callable[[Deadline], Operation[T] | T], deadline: Deadline) -> None:
        self._begin = begin
        self._deadline = deadline
        self._operation: Operation[T] | None = None

    def next(self, failure: Exception | None = None) -> Wait | None:
        """Run up to the next wait, which it returns; ``None``: the operation has ended, with ``result``.

        ``failure`` is raised at the wait where the operation is.
        """
        if self._operation is None:
            begun = self._begin(self._deadline)
            if not isinstance(begun, Generator):
                self.result = begun
                return None
            self._operation = begun
        try:
            return next(self._operation) if failure is None else self._operation.throw(failure)
        except StopIteration as end:
            self.result = end.value
            return None


async def end_of(wait: Wait) -> None:
    """The end of a wait."""
    if wait.longest() == 0:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end() -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(ended.set)

    wait.on_end(end)
    with suppress(TimeoutError):
        async with asyncio.timeout(wait.longest()):
            await ended.wait()
