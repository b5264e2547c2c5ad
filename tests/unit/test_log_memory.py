"""What a reader of a log keeps in memory is bounded, whatever a bot has written."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from contextlib import aclosing, suppress

import pytest

from container_manager.backend_logs import LogUnreadableError
from container_manager.logs.existing import ExistingEntries, LogOptions
from tests.support.traced_memory import traced
from tests.unit.log_engine import CONTAINER
from tests.unit.test_log_stretches import Lines, entries

SHORT_LINES = 20_000


async def held_at_the_end(log: Lines, options: LogOptions, held: Callable[[], int]) -> int:
    """What is held while the caller has the last entry."""
    got = 0
    async with aclosing(ExistingEntries(log, CONTAINER, options).batches()) as batches:
        with suppress(LogUnreadableError):
            async for batch in batches:
                if batch[-1].time_ns == SHORT_LINES - 1:
                    got = held()
    return got


@pytest.mark.parametrize("tail", [None, 10])
def test_what_is_known_of_a_damaged_log_of_short_lines_is_not_kept(tail: int | None) -> None:
    """A reader knows all intact entries while it looks for them. For a tail it does not look so far."""
    lines = entries(0, SHORT_LINES)
    lines[-50] = None
    with traced() as held:
        got = asyncio.run(held_at_the_end(Lines(lines), LogOptions(tail_lines=tail), held))
        _, peak = tracemalloc.get_traced_memory()
    assert 0 < got < 1 << 18
    assert tail is None or peak < 1 << 18
