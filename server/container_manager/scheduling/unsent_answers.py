"""Bounds the answers that callers do not take: gRPC keeps each in memory for as long as the connection lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, cast

import structlog

from container_manager.errors import CapacityExceededError
from container_manager.scheduling.earliest_timer import EarliestTimer

LONGEST_SECONDS = 30.0
"""The longest that a caller may take to receive an answer."""
PATIENCE_SECONDS = 2.0
"""The oldest answers that take longer are dropped while more than half of the bound is used."""
CALL_BYTES = 16 * 1024
"""What gRPC keeps for a call beside its answer."""
STREAM_BYTES = 64 * 1024
"""What gRPC keeps of a stream's messages: a further write waits."""
_ROUND_SECONDS = 0.1

EndCalls = Callable[[Collection[asyncio.Task[Any]]], None]
"""Ends the calls that run in these tasks."""

_log = structlog.get_logger(__name__)


class UnsentAnswers:
    """Of one listener, on its event loop."""

    def __init__(self, most_bytes: int, end_calls: EndCalls) -> None:
        self.bytes = 0
        self._most_bytes = most_bytes
        self._end_calls = end_calls
        # By the task that sends the answer, oldest first: the loop's time, and the size.
        self._unsent: dict[asyncio.Task[Any], tuple[float, int]] = {}
        self._timer = EarliestTimer(self._end_overdue)

    def check(self) -> None:
        """Raises :class:`CapacityExceededError` when there are so many that no further call is to be answered."""
        if self.bytes > self._most_bytes:
            raise CapacityExceededError(
                f"answers with {self.bytes} bytes wait for their callers to take them; try again in a moment"
            )

    def add(self, size: int) -> None:
        """The current task sends an answer of so many bytes, and does nothing else from now on."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._unsent[task] = asyncio.get_running_loop().time(), CALL_BYTES + size
        self.bytes += CALL_BYTES + size
        task.add_done_callback(self._forget)
        if not self._timer.is_set or self._is_pressed:
            self._set_timer()

    @property
    def _is_pressed(self) -> bool:
        return self.bytes > self._most_bytes // 2

    def _forget(self, task: asyncio.Task[Any]) -> None:
        _, size = self._unsent.pop(task, (0.0, 0))
        self.bytes -= size

    def _set_timer(self) -> None:
        if not self._unsent:
            return
        oldest, _ = next(iter(self._unsent.values()))
        when = oldest + (PATIENCE_SECONDS if self._is_pressed else LONGEST_SECONDS)
        self._timer.set(max(when, asyncio.get_running_loop().time() + _ROUND_SECONDS))

    def _end_overdue(self) -> None:
        """End those that have had their time, oldest first."""
        now, overdue = asyncio.get_running_loop().time(), []
        for task, (start, _) in list(self._unsent.items()):
            if now - start < (PATIENCE_SECONDS if self._is_pressed else LONGEST_SECONDS):
                break
            self._forget(task)
            overdue.append(task)
        if overdue:
            _log.warning("ended calls whose answers were not taken in time", calls=len(overdue))
            self._end_calls(overdue)
        self._set_timer()
