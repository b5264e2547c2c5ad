"""One timer for many times: a timer for each call would cost every call some of its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context


class EarliestTimer:
    """Fires at the earliest of the times that it was set to since it last fired. For one event loop.

    ``fire`` may set it again.
    """

    def __init__(self, fire: Callable[[], object]) -> None:
        self._fire = fire
        self._timer: asyncio.TimerHandle | None = None
        # The handle that uvloop gives for a moment that has passed has no ``when()``.
        self._due = 0.0

    @property
    def is_set(self) -> bool:
        """Whether it is going to fire."""
        return self._timer is not None

    def set(self, when: float) -> None:
        """Fire at this time of the loop, or at an earlier one that it was set to."""
        if self._timer is not None:
            if self._due <= when:
                return
            self._timer.cancel()
        self._due = when
        # Not in the context of the call that happens to set it: its log has that call's request id.
        self._timer = asyncio.get_running_loop().call_at(when, self._fired, context=Context())

    def _fired(self) -> None:
        self._timer = None
        self._fire()
