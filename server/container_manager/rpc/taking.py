"""Ends streams whose callers do not take what is ready: they would keep their places while their connections live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from container_manager.errors import CapacityExceededError

TAKE_SECONDS = 10.0
"""How long a caller may take to receive what is ready."""


@asynccontextmanager
async def taken_in_time(what: str) -> AsyncIterator[Callable[[], None]]:
    """Yields a function: when it is called, the block has :data:`TAKE_SECONDS` to end.

    Raises :class:`CapacityExceededError` with the message ``what`` when it does not.
    """
    try:
        async with asyncio.timeout(None) as scope:

            def begin() -> None:
                # RuntimeError: the block has ended.
                with suppress(RuntimeError):
                    scope.reschedule(asyncio.get_running_loop().time() + TAKE_SECONDS)

            yield begin
    except TimeoutError:
        if not scope.expired():
            raise
        raise CapacityExceededError(what) from None
