"""Warnings that callers can cause as often as they like."""

from __future__ import annotations

import asyncio

from container_manager.rpc.repeated_warning import RepeatedWarning
from tests.support.virtual_loop import virtual


@virtual
async def test_the_first_event_is_logged_at_once_and_those_after_it_at_the_end_of_their_minute() -> None:
    logged: list[int] = []
    warning = RepeatedWarning(logged.append)

    async def lines(events: int) -> list[int]:
        """What is logged of these events within a minute."""
        logged.clear()
        for _ in range(events):
            warning.count()
        await asyncio.sleep(60.1)
        return list(logged)

    assert [1, 999] == await lines(1000)
    assert [2] == await lines(2), "one line a minute"
    assert [] == await lines(0)
    assert [1] == await lines(1)
    logged.clear()
    warning.close()
    assert [] == logged
